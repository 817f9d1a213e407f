/* Java: C threads attached to one virtual machine call static methods through JNI. There is no limit to how many run at once. */
#include "subject.h"
#include <jni.h>
#include <stdio.h>

#ifndef CLASS_PATH
#error "compile with -DCLASS_PATH=\"folder of Calls.class\""
#endif

static JavaVM *machine;
static jclass calls;
static jmethodID callMethod, workMethod;
static _Thread_local JNIEnv *environment;

static int findMethods(JNIEnv *env)
{
    jclass local = (*env)->FindClass(env, "Calls");
    if (local == NULL) return -1;
    calls = (*env)->NewGlobalRef(env, local);
    callMethod = (*env)->GetStaticMethodID(env, calls, "call", "(I)I");
    workMethod = (*env)->GetStaticMethodID(env, calls, "work", "(I)I");
    return callMethod != NULL && workMethod != NULL ? 0 : -1;
}

int subjectStart(int capabilities)
{
    (void)capabilities;
    JavaVMOption option = {.optionString = "-Djava.class.path=" CLASS_PATH};
    JavaVMInitArgs args = {.version = JNI_VERSION_1_8, .nOptions = 1, .options = &option};
    JNIEnv *env;
    if (JNI_CreateJavaVM(&machine, (void **)&env, &args) != JNI_OK) return -1;
    environment = env;
    return findMethods(env);
}

int subjectAttach(void)
{
    JNIEnv *env;
    if ((*machine)->AttachCurrentThread(machine, (void **)&env, NULL) != JNI_OK) return -1;
    environment = env;
    return 0;
}

int64_t subjectCall(int64_t n)
{
    JNIEnv *env = environment;
    jint result = (*env)->CallStaticIntMethod(env, calls, callMethod, (jint)n);
    return (*env)->ExceptionCheck(env) ? -1 : result;
}

int64_t subjectWork(int64_t rounds)
{
    JNIEnv *env = environment;
    jint result = (*env)->CallStaticIntMethod(env, calls, workMethod, (jint)rounds);
    return (*env)->ExceptionCheck(env) ? -1 : result;
}

void subjectDetach(void)
{
    environment = NULL;
    (*machine)->DetachCurrentThread(machine);
}
