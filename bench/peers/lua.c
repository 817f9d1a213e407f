/* Lua 5.4 or LuaJIT, whichever headers it is compiled with: one state under one pthread mutex, protected calls. */
#include "subject.h"
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static lua_State *state;
static int callReference, workReference;

/* A table of two fields and an array of five is about 100 bytes in either Lua; two of them hold 1 … 8. */
static const char program[] =
    "local factor, modulus = ...\n"
    "local function call(n) return n + 1 end\n"
    "local function work(rounds)\n"
    "  local list\n"
    "  for i = 1, 8, 4 do list = {i, i + 1, i + 2, i + 3, list or false} end\n"
    "  local x = 0\n"
    "  while list do\n"
    "    x = x + list[1] + list[2] + list[3] + list[4]\n"
    "    list = list[5]\n"
    "  end\n"
    "  for i = 1, rounds do x = x * factor % modulus end\n"
    "  return x\n"
    "end\n"
    "return call, work\n";

int subjectStart(int capabilities)
{
    (void)capabilities;
    state = luaL_newstate();
    if (state == NULL) return -1;
    luaL_openlibs(state);
    if (luaL_loadstring(state, program) != 0) return -1;
    lua_pushinteger(state, WORK_FACTOR);
    lua_pushinteger(state, WORK_MODULUS);
    if (lua_pcall(state, 2, 2, 0) != 0) {
        fprintf(stderr, "bench: %s\n", lua_tostring(state, -1));
        return -1;
    }
    workReference = luaL_ref(state, LUA_REGISTRYINDEX);
    callReference = luaL_ref(state, LUA_REGISTRYINDEX);
    return 0;
}

int subjectAttach(void)
{
    return 0;
}

static int64_t callReferenced(int reference, int64_t argument)
{
    pthread_mutex_lock(&lock);
    lua_rawgeti(state, LUA_REGISTRYINDEX, reference);
    lua_pushinteger(state, (lua_Integer)argument);
    int64_t result = lua_pcall(state, 1, 1, 0) == 0 ? (int64_t)lua_tointeger(state, -1) : -1;
    lua_settop(state, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int64_t subjectCall(int64_t n)
{
    return callReferenced(callReference, n);
}

int64_t subjectWork(int64_t rounds)
{
    return callReferenced(workReference, rounds);
}

void subjectDetach(void)
{
}
