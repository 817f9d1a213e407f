dnl Macros of Capstan's own configure.ac, in the order it calls them.

dnl CAPSTAN_CHOOSE_ARCH: the folder under arch/ that serves this processor.
AC_DEFUN([CAPSTAN_CHOOSE_ARCH], [
AC_MSG_CHECKING([for a port to this processor])
AS_CASE([$host_cpu],
  [x86_64|amd64], [capstan_arch=x86_64],
  [aarch64|arm64], [capstan_arch=aarch64],
  [riscv64*], [capstan_arch=riscv64],
  [capstan_arch=none])
AC_MSG_RESULT([$capstan_arch])
AS_IF([test $capstan_arch = none],
  [AC_MSG_ERROR([there is no port to '$host_cpu' yet (there are: x86_64 aarch64 riscv64).
  What a port owes stands in arch/arch.h; it goes into arch/$host_cpu/ and
  into the table in m4/capstan.m4.])])
AC_CHECK_SIZEOF([void *])
AS_IF([test "$ac_cv_sizeof_void_p" != 8],
  [AC_MSG_ERROR([pointers of 64 bits are needed, this compiler's have $ac_cv_sizeof_void_p bytes])])
AM_CONDITIONAL([ARCH_X86_64], [test $capstan_arch = x86_64])
AM_CONDITIONAL([ARCH_AARCH64], [test $capstan_arch = aarch64])
AM_CONDITIONAL([ARCH_RISCV64], [test $capstan_arch = riscv64])
])

dnl CAPSTAN_CHOOSE_OS: rts/os/os.h is the contract with the operating system.
AC_DEFUN([CAPSTAN_CHOOSE_OS], [
AS_CASE([$host_os],
  [linux*], [],
  [AC_MSG_ERROR([there is no port to '$host_os' yet (there is: linux).
  What a port owes stands in rts/os/os.h.])])
])

dnl CAPSTAN_EMULATOR: how make check runs programs that this machine cannot.
AC_DEFUN([CAPSTAN_EMULATOR], [
AC_ARG_VAR([EMULATOR], [command before each program that the tests run, in a
  cross build: qemu-aarch64-static -L SYSROOT])
AM_CONDITIONAL([EMULATED], [test -n "$EMULATOR"])
])

dnl CAPSTAN_NATIVE_TOOL: capstan-foreign makes sources of the examples and tests, so in a cross build there is one for this machine too.
AC_DEFUN([CAPSTAN_NATIVE_TOOL], [
AC_ARG_VAR([CC_FOR_BUILD], [in a cross build: C compiler for this machine (default: cc)])
: ${CC_FOR_BUILD=cc}
AM_CONDITIONAL([CROSS_COMPILING], [test "$cross_compiling" = yes])
AC_SUBST([CAPSTAN_ARCH], [$capstan_arch])
])

dnl CAPSTAN_ENABLE_DEBUG: --enable-debug, and --enable-torture which implies it.
AC_DEFUN([CAPSTAN_ENABLE_DEBUG], [
AC_ARG_ENABLE([debug],
  [AS_HELP_STRING([--enable-debug], [assertions, invariants and field checks])],
  [], [enable_debug=no])
AC_ARG_ENABLE([torture],
  [AS_HELP_STRING([--enable-torture],
    [collect at every fourth safepoint, migrate at each (implies --enable-debug)])],
  [], [enable_torture=no])
AS_IF([test "$enable_torture" != no], [enable_debug=yes])
AS_IF([test "$enable_debug" != no],
  [AC_DEFINE([CAPSTAN_DEBUG], [1], [Assertions, invariants, field checks.])])
AS_IF([test "$enable_torture" != no],
  [AC_DEFINE([CAPSTAN_TORTURE], [1], [Collect at every fourth safepoint, migrate at each.])])
])

dnl CAPSTAN_ENABLE_SANITIZERS: the flags go to the compiler and the linker,
dnl not to the assembler, hence the macros that config.h gets.
AC_DEFUN([CAPSTAN_ENABLE_SANITIZERS], [
AC_ARG_ENABLE([sanitizers],
  [AS_HELP_STRING([--enable-sanitizers=LIST],
    [build with sanitizers: address,undefined or thread])],
  [], [enable_sanitizers=no])
SAN_FLAGS=
AS_CASE([$enable_sanitizers],
  [no], [],
  [yes], [AC_MSG_ERROR([say which: --enable-sanitizers=address,undefined or =thread])],
  [SAN_FLAGS="-fsanitize=$enable_sanitizers -fno-omit-frame-pointer"])
AS_CASE([,$enable_sanitizers,], [*,undefined,*],
  [SAN_FLAGS="$SAN_FLAGS -fno-sanitize-recover=undefined"])
AS_CASE([,$enable_sanitizers,], [*,address,*],
  [AC_DEFINE([CAPSTAN_ASAN], [1], [Built with AddressSanitizer.])])
AS_CASE([,$enable_sanitizers,], [*,thread,*],
  [AC_DEFINE([CAPSTAN_TSAN], [1], [Built with ThreadSanitizer.])])
AS_IF([test -n "$SAN_FLAGS"], [
  AC_MSG_CHECKING([whether $CC links with $SAN_FLAGS])
  capstan_save_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS $SAN_FLAGS"
  AC_LINK_IFELSE([AC_LANG_PROGRAM()], [AC_MSG_RESULT([yes])],
    [AC_MSG_RESULT([no])
     AC_MSG_ERROR([this compiler cannot: install its sanitizer runtime (Debian: libclang-rt-dev for clang)])])
  CFLAGS=$capstan_save_CFLAGS
])
AC_SUBST([SAN_FLAGS])
AC_SUBST([SANITIZERS], [$enable_sanitizers])
AM_CONDITIONAL([SANITIZED], [test -n "$SAN_FLAGS"])
])

dnl CAPSTAN_TRY_FLAGS(VARIABLE, compile|link, FLAGS): adds those that work.
dnl -Werror, because clang only warns of flags that it does not know.
AC_DEFUN([CAPSTAN_TRY_FLAGS], [
for capstan_flag in m4_normalize([$3]); do
  AC_MSG_CHECKING([whether $CC takes $capstan_flag])
  capstan_save_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS -Werror $capstan_flag"
  m4_if([$2], [link], [AC_LINK_IFELSE], [AC_COMPILE_IFELSE])([AC_LANG_PROGRAM()],
    [AC_MSG_RESULT([yes])
     $1="$$1 $capstan_flag"],
    [AC_MSG_RESULT([no])])
  CFLAGS=$capstan_save_CFLAGS
done
AC_SUBST([$1])
])

dnl CAPSTAN_COMPILER_FLAGS: CODE_FLAGS change the code, WARN_FLAGS do not.
dnl  -fasynchronous-unwind-tables: pthread_exit and cancellation unwind through
dnl  our frames. (Not -fexceptions: with it pthread_cleanup_push relies on the
dnl  unwinder reaching its frame, and unwinding from a fiber ends with the fiber.)
dnl  -fno-strict-aliasing: one word is an object, an integer and a header.
dnl  -fno-semantic-interposition: nobody replaces our functions by others.
AC_DEFUN([CAPSTAN_COMPILER_FLAGS], [
CODE_FLAGS=
WARN_FLAGS=
CAPSTAN_TRY_FLAGS([CODE_FLAGS], [compile],
  [-std=gnu11 -fvisibility=hidden -fasynchronous-unwind-tables
   -fno-strict-aliasing -fno-semantic-interposition])
AS_CASE(["$CODE_FLAGS"], [*visibility*], [],
  [AC_MSG_ERROR([the compiler must know -fvisibility=hidden])])
CODE_FLAGS="$CODE_FLAGS -pthread"
CAPSTAN_TRY_FLAGS([WARN_FLAGS], [compile],
  [-Wall -Wextra -Wno-unused-parameter -Wstrict-prototypes
   -Wmissing-prototypes -Wthread-safety])
AC_ARG_ENABLE([werror],
  [AS_HELP_STRING([--enable-werror], [treat warnings as errors (developers)])],
  [], [enable_werror=no])
AS_IF([test "$enable_werror" != no], [WARN_FLAGS="$WARN_FLAGS -Werror"])
])

dnl CAPSTAN_LINKER_FLAGS: for the shared library.
dnl  nodelete: thread-local destructors of threads that the host owns point
dnl  into it, so it can never be unloaded.
dnl  Bsymbolic-functions, not Bsymbolic: an executable may hold a copy of
dnl  an exported closure, and then both must mean that copy.
AC_DEFUN([CAPSTAN_LINKER_FLAGS], [
SHLIB_LDFLAGS=
CAPSTAN_TRY_FLAGS([SHLIB_LDFLAGS], [link],
  [-Wl,-z,nodelete -Wl,-z,now -Wl,-z,relro -Wl,-Bsymbolic-functions])
dnl A sanitizer's runtime is in the executable, so there names stay open.
AS_IF([test -z "$SAN_FLAGS"],
  [CAPSTAN_TRY_FLAGS([SHLIB_LDFLAGS], [link], [-Wl,-z,defs])])
])

dnl CAPSTAN_WITH_LIBRARY(OPTION, VARIABLE, MODULE, HAVE, PURPOSE)
dnl used when present; asked for and missing is an error.
AC_DEFUN([CAPSTAN_WITH_LIBRARY], [
AC_ARG_WITH([$1],
  [AS_HELP_STRING([--without-$1], [do without lib$1 ($5)])],
  [], [with_$1=auto])
have_$1=no
AS_IF([test "$with_$1" != no],
  [PKG_CHECK_MODULES([$2], [$3], [have_$1=yes], [have_$1=no])])
AS_IF([test "$with_$1" = yes && test "$have_$1" = no],
  [AC_MSG_ERROR([--with-$1 was given, and pkg-config does not find '$3' (Debian: lib$1-dev): $$2_PKG_ERRORS])])
AS_IF([test "$have_$1" = yes],
  [AC_DEFINE([HAVE_$4], [1], [lib$1: $5.])])
AM_CONDITIONAL([HAVE_$4], [test "$have_$1" = yes])
])

dnl CAPSTAN_PROGRAM_LIBRARY(VARIABLE, NAME, MODULE): for our programs, never
dnl for the library; sets have_NAME.
AC_DEFUN([CAPSTAN_PROGRAM_LIBRARY], [
PKG_CHECK_MODULES([$1], [$3], [have_$2=yes], [have_$2=no])
AS_IF([test "$have_$2" = yes],
  [AC_DEFINE([HAVE_$1], [1], [Our programs may use $2.])])
AM_CONDITIONAL([HAVE_$1], [test "$have_$2" = yes])
])

dnl CAPSTAN_HIDE_STATIC: whether the installed libcapstan.a can be one object
dnl with its inner names made local. Objects for link-time optimisation
dnl cannot be joined that way, and keep the plain archive.
AC_DEFUN([CAPSTAN_HIDE_STATIC], [
capstan_hide=no
AS_IF([test "$enable_static" != no && test "$OBJCOPY" != no], [capstan_hide=yes])
AS_CASE([" $CFLAGS $LDFLAGS "], [*\ -flto*], [capstan_hide=no])
AM_CONDITIONAL([HIDE_STATIC], [test $capstan_hide = yes])
AM_CONDITIONAL([SHARED], [test "$enable_shared" != no])
])

AC_DEFUN([CAPSTAN_SUMMARY], [
AS_ECHO(["
Capstan $PACKAGE_VERSION for $capstan_arch, compiled by $CC
  libraries        shared: $enable_shared, static: $enable_static (inner names hidden: $capstan_hide)
  numa, hwloc      $have_numa, $have_hwloc
  debug, torture   $enable_debug, $enable_torture
  sanitizers       $enable_sanitizers"])
AS_IF([test -z "$examples_missing"],
  [AS_ECHO(["  examples         yes"])],
  [AS_ECHO(["  examples         NO, for want of:$examples_missing"])])
AS_IF([test -n "$OPENMP_CFLAGS"], [have_openmp=yes], [have_openmp=no])
AS_ECHO(["  clients          sqlite: $have_sqlite, http: $have_microhttpd, glib: $have_glib, openmp: $have_openmp; C++: $CXX"])
AS_IF([test "$have_cmocka" = yes],
  [AS_ECHO(["  unit tests       yes"])],
  [AS_ECHO(["  unit tests       NO, for want of: libcmocka-dev"])])
AS_ECHO([""])
])
