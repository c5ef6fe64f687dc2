/* Starts a program of a bundle (scripts/build-bundle) with the bundle's own loader and libraries.
 *
 * A program names its loader by an absolute path, which neither a bundle that may lie anywhere nor a
 * node without glibc has. So BUNDLE/bin and BUNDLE/programs have a static copy of this for each
 * program: its own name says which is meant, and its place where the bundle is.
 *
 * bin/ipvlan starts Python as scripts/ipvlan does: isolated from its caller's Python, and only where
 * Python can live.
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

static const char start[] =
    "import os, sys\n"
    "sys.argv[0] = sys.argv.pop(1)\n"
    "if os.environ['HOME'] == '" NO_HOME "':\n"
    "    del os.environ['HOME']\n"
    "from cni_ipvlan.__main__ import main\n"
    "sys.exit(main())\n";

extern char **environ;
static char root[PATH_MAX]; /* the bundle's directory */
static char *name;          /* of the program */

/* Answers a call that no Python will: a runtime as a plugin does, a person in plain words. */
static void refuse(const char *why, const char *details)
{
    const char *verb = getenv("CNI_COMMAND");
    int is_ipvlan = strcmp(name, "ipvlan") == 0;

    if (is_ipvlan && verb && *verb)
        printf("{\"cniVersion\": \"1.0.0\", \"code\": 5, \"msg\": \"cannot start %s: %s\", \"details\": \"%s\"}\n", name, why, details);
    else
        fprintf(stderr, "cannot start %s: %s\n%s\n", name, why, details);
    exit(is_ipvlan ? 1 : 127);
}

/* Sets root and name, from BUNDLE/DIRECTORY/NAME. */
static void find_bundle(void)
{
    ssize_t length = readlink("/proc/self/exe", root, sizeof root - 1);
    char *directory;

    name = "ipvlan";
    if (length <= 0)
        refuse("/proc is not mounted", "It is where this program finds out where it is.");
    root[length] = 0;
    name = strrchr(root, '/');
    *name++ = 0;
    directory = strrchr(root, '/');
    if (directory)
        *directory = 0;
    if (strpbrk(root, ":;$"))
        refuse("its bundle lies in a directory with one of :;$ in its name", "The loader does not take these.");
}

static char *in_bundle(const char *directory, const char *file)
{
    char *path;

    if (asprintf(&path, "%s/%s/%s", root, directory, file) < 0)
        refuse("there is no memory", "See ulimit -v and ulimit -d.");
    return path;
}

/* Returns the name by which Python finds its library: the path through links, if it was called by one,
 * which scripts/install-node has written down, and compares. */
static char *name_of_python(char *called)
{
    char *itself = in_bundle("bin", "python3"), real[PATH_MAX];

    return called && *called == '/' && realpath(called, real) && strcmp(real, itself) == 0 ? called : itself;
}

static void check_memory(int resource)
{
    struct rlimit limit;
    char why[80];

    if (getrlimit(resource, &limit) || limit.rlim_cur >= strtoull(LEAST_MEMORY, NULL, 10)) /* RLIM_INFINITY is more */
        return;
    snprintf(why, sizeof why, "its memory is limited to %llu bytes", (unsigned long long)limit.rlim_cur);
    refuse(why, "Python needs " LEAST_MEMORY ": see ulimit -v and ulimit -d.");
}

/* Refuses where Python would die before it could answer. */
static void check_surroundings(void)
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

/* LD_PRELOAD and the like are meant for programs of the node, and fit another C library. */
static void free_loader(void)
{
    char **kept = environ;

    for (char **each = environ; *each; each++)
        if (strncmp(*each, "LD_", 3) && strncmp(*each, "GLIBC_TUNABLES=", 15))
            *kept++ = *each;
    *kept = NULL;
}

int main(int argc, char **argv)
{
    find_bundle();
    int is_ipvlan = strcmp(name, "ipvlan") == 0;
    int is_python = is_ipvlan || strcmp(name, "python3") == 0;
    if (is_ipvlan)
        check_surroundings();
    free_loader();

    char *loader[] = {
        in_bundle("lib", LOADER),
        "--inhibit-cache", /* it lists the node's libraries */
        "--library-path",
        in_bundle("lib", ""),
        "--argv0",
        is_python ? name_of_python(argv[0]) : argv[0],
        in_bundle("lib/programs", is_python ? "python3" : name),
    };
    char *python[] = {"-I", "-X", "utf8", "-c", (char *)start, in_bundle("bin", name)};
    char *words[argc + 16], **next = mempcpy(words, loader, sizeof loader);
    if (is_ipvlan) {
        next = mempcpy(next, python, sizeof python);
        setenv("HOME", NO_HOME, 0);
        if (argc == 1)
            signal(SIGINT, SIG_IGN); /* in its first 20 ms, Python would end with a traceback */
    }
    memcpy(next, argv + 1, argc * sizeof *argv); /* with the NULL behind them */
    execv(*words, words);
    refuse(errno == ENOENT ? "the rest of its bundle is not where it was unpacked" : strerror(errno),
           "Unpack the bundle again, and link to its bin/ipvlan, or run it in a script, instead of copying it.");
}
