/* Slurm for a moment, as far as a plugin can see it: loads the plugin as Slurm does, all symbols at once, and calls what it
 * exports as srun does (context 1), as sbatch (4), and as slurmstepd (2), whose task it then ends as a task ends.
 * Usage: loader PLUGIN CONTEXT */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int callback(void *, int, char **);

static int context, options;
static char variables[8192];

/* Those of spank.h that the plugin needs, with a job that has nothing but an environment. */
int spank_context(void) { return context; }
int spank_option_register(void *spank, void *option) { return ++options, 0; }
int spank_get_item(void *spank, int item, ...) { return 3000 /* ESPANK_ERROR */; }
int spank_getenv(void *spank, const char *name, char *value, int size) { return 3007 /* ESPANK_ENV_NOEXIST */; }
int spank_setenv(void *spank, const char *name, const char *value, int again)
{
    strncat(variables, name, sizeof variables - strlen(variables) - 1);
    return 0;
}
int spank_unsetenv(void *spank, const char *name) { return 0; }
int spank_job_control_unsetenv(void *spank, const char *name) { return 0; }
long slurm_api_version(void) { return 38 << 16; }

#define PRINTS(name)                                       \
    int name(const char *format, ...)                      \
    {                                                      \
        va_list words;                                     \
        va_start(words, format);                           \
        printf(#name ": ");                                \
        vprintf(format, words);                            \
        printf("\n");                                      \
        va_end(words);                                     \
        return 0;                                          \
    }
PRINTS(slurm_error)
PRINTS(slurm_info)
PRINTS(slurm_verbose)
PRINTS(slurm_debug)
PRINTS(slurm_debug2)
PRINTS(slurm_debug3)
PRINTS(slurm_spank_log)

int main(int count, char **words)
{
    static const char *const names[] = {"slurm_spank_init", "slurm_spank_init_post_opt",
        "slurm_spank_task_init_privileged", "slurm_spank_task_init", "slurm_spank_task_exit"};
    void *plugin;
    size_t at;
    if (count != 3) return 2;
    context = atoi(words[2]);
    plugin = dlopen(words[1], RTLD_NOW);
    if (!plugin) return fprintf(stderr, "dlopen: %s\n", dlerror()), 1;
    printf("%s %s %#x\n", (char *)dlsym(plugin, "plugin_type"), (char *)dlsym(plugin, "plugin_name"),
        *(unsigned *)dlsym(plugin, "plugin_version"));
    for (at = 0; at < sizeof names / sizeof *names; at++) {
        callback *call = (callback *)dlsym(plugin, names[at]);
        if (!call) return fprintf(stderr, "dlsym: %s\n", dlerror()), 1;
        /* Where there are no tasks, srun and sbatch. */
        if (context != 2 && at > 1) break;
        printf("%s: %d\n", names[at], call(NULL, 0, NULL));
        fflush(stdout);
    }
    printf("options: %d\n", options);
    return 0;
}
