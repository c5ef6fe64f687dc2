/* Starts a program of a bundle (scripts/build-bundle) with the bundle's own loader and libraries.
 *
 * A program names its loader by an absolute path. A node without glibc has no such file, and a bundle may
 * lie anywhere. So BUNDLE/bin and BUNDLE/programs have a static copy of this launcher for each program.
 * The copy's name is the program's, and its path tells where the bundle is.
 *
 * bin/ipvlan starts Python as scripts/ipvlan does: isolated from its caller's Python, and after a check of
 * its input and limits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAST_MEMORY "33554432" /* these two as in scripts/ipvlan */
#define NO_HOME "/nonexistent/home"

static const char python_code[] =
    "import os, sys\n"
    "sys.argv[0] = sys.argv.pop(1)\n"
    "if os.environ['HOME'] == '" NO_HOME "':\n"
    "    del os.environ['HOME']\n"
    "from cni_ipvlan.__main__ import main\n"
    "sys.exit(main())\n";

extern char **environ;
static char root[PATH_MAX];   /* the bundle's directory */
static char *name = "ipvlan"; /* of the program, once it is known */
static int is_ipvlan = 1;

/* Reports an error that keeps a program from starting: to a runtime as a plugin does, to a user as text. */
static void refuse(const char *problem, const char *details)
{
    const char *verb = getenv("CNI_COMMAND");

    if (is_ipvlan && verb && *verb)
        printf("{\"cniVersion\": \"1.0.0\", \"code\": 5, \"msg\": \"cannot start %s: %s\", \"details\": \"%s\"}\n", name, problem, details);
    else
        fprintf(stderr, "cannot start %s: %s\n%s\n", name, problem, details);
    exit(is_ipvlan ? 1 : 127);
}

/* Sets root, name and is_ipvlan, from BUNDLE/DIRECTORY/NAME. */
static void find_bundle(void)
{
    ssize_t length = readlink("/proc/self/exe", root, sizeof root - 1);
    char *directory;

    if (length <= 0)
        refuse("/proc is not mounted", "It is where this program finds out where it is.");
    root[length] = 0;
    name = strrchr(root, '/');
    *name++ = 0;
    is_ipvlan = strcmp(name, "ipvlan") == 0;
    directory = strrchr(root, '/');
    if (directory)
        *directory = 0;
    if (strpbrk(root, ":;$"))
        refuse("its bundle lies in a directory with one of :;$ in its name", "The loader does not take these.");
}

static char *make_path(const char *directory, const char *file)
{
    char *path;

    if (asprintf(&path, "%s/%s/%s", root, directory, file) < 0)
        refuse("there is no memory", "See ulimit -v and ulimit -d.");
    return path;
}

/* Returns the path by which Python finds its library, and which is its sys.executable. It is argv0 if that
 * leads to this bundle, also through links, since what scripts/install-node writes compares the two. */
static char *find_python_path(char *argv0)
{
    char *path = make_path("bin", "python3"), real[PATH_MAX];

    return argv0 && *argv0 == '/' && realpath(argv0, real) && strcmp(real, path) == 0 ? argv0 : path;
}

static void check_memory(int resource)
{
    struct rlimit limit;
    char problem[80];

    if (getrlimit(resource, &limit) || limit.rlim_cur >= strtoull(LEAST_MEMORY, NULL, 10)) /* RLIM_INFINITY is more */
        return;
    snprintf(problem, sizeof problem, "its memory is limited to %llu bytes", (unsigned long long)limit.rlim_cur);
    refuse(problem, "Python needs " LEAST_MEMORY ": see ulimit -v and ulimit -d.");
}

/* Refuses a call in which Python would die before it could answer. */
static void check_input_and_limits(void)
{
    struct stat input;
    int file;

    if (fstat(0, &input) == 0 && S_ISDIR(input.st_mode))
        refuse("standard input is a directory", "The network configuration is read from there.");
    check_memory(RLIMIT_DATA);
    check_memory(RLIMIT_AS);
    file = open("/", O_PATH);
    if (file < 0)
        refuse("it may not open enough files", "See ulimit -n.");
    close(file);
}

/* LD_PRELOAD and other variables for the loader are for the node's programs, and need its C library. */
static void remove_loader_variables(void)
{
    char **next = environ;

    for (char **each = environ; *each; each++)
        if (strncmp(*each, "LD_", 3) && strncmp(*each, "GLIBC_TUNABLES=", 15))
            *next++ = *each;
    *next = NULL;
}

int main(int argc, char **argv)
{
    find_bundle();
    int is_python = is_ipvlan || strcmp(name, "python3") == 0;
    if (is_ipvlan)
        check_input_and_limits();
    remove_loader_variables();

    char *loader[] = {
        make_path("lib", LOADER),
        "--inhibit-cache", /* the cache has the node's libraries */
        "--library-path",
        make_path("lib", ""),
        "--argv0",
        is_python ? find_python_path(argv[0]) : argv[0],
        make_path("lib/programs", is_python ? "python3" : name),
    };
    char *python[] = {"-I", "-X", "utf8", "-c", (char *)python_code, make_path("bin", name)};
    char *words[argc + 16], **next = mempcpy(words, loader, sizeof loader);
    if (is_ipvlan) {
        next = mempcpy(next, python, sizeof python);
        setenv("HOME", NO_HOME, 0);
        if (argc == 1)
            signal(SIGINT, SIG_IGN); /* in its first 20 ms, Python would end with a traceback */
    }
    memcpy(next, argv + 1, argc * sizeof *argv); /* and the NULL at the end */
    execv(*words, words);
    refuse(errno == ENOENT ? "the rest of its bundle is not where it was unpacked" : strerror(errno),
           "Unpack the bundle again, and link to its bin/ipvlan, or run it in a script, instead of copying it.");
}
