//! `chariot help`: made of the command line, so that it can say nothing else.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};

use super::command;
use crate::print;
use chariot_core::error::{Error, Result};

pub(super) fn help_command() -> Command {
    let names = TOPICS.map(|(name, _)| name).join(", ");
    Command::new("help")
        .about("Explain a subject, or a command")
        .arg(
            Arg::new("topic")
                .value_name("TOPIC")
                .add(super::completion::topics())
                .help(format!("a subject ({names}), or the name of a command")),
        )
}

/// The subjects.
pub(super) fn topics() -> impl Iterator<Item = &'static str> {
    TOPICS.iter().map(|(name, _)| *name)
}

/// `chariot help TOPIC`.
pub(super) fn help(matches: &ArgMatches) -> Result<ExitCode> {
    let Some(topic) = matches.get_one::<String>("topic") else {
        let names = TOPICS.map(|(name, text)| {
            format!("  {name:<10} {}\n", text.lines().next().unwrap_or_default())
        });
        let own = command().render_help();
        return print::own_text(&format!(
            "{own}\nSubjects, for `chariot help TOPIC`:\n{}",
            names.concat()
        ));
    };
    if let Some((_, text)) = TOPICS.iter().find(|(name, _)| name == topic) {
        return print::own_text(text);
    }
    let mut whole = command();
    whole.build();
    match whole
        .find_subcommand_mut(topic)
        .filter(|command| !command.is_hide_set())
    {
        Some(command) => print::own_text(&command.render_long_help().to_string()),
        None => Err(
            Error::new(format!("there is no help on {topic}")).hint(format!(
                "the subjects are {}",
                TOPICS.map(|(name, _)| name).join(", ")
            )),
        ),
    }
}

pub(super) const TOPIC_SLURM: &str = "\
srun, sbatch and salloc run a job in a container when you name an image.

  srun -N4 -n64 --ch-image=./debian.sqfs ./app
  sbatch --ch-image=docker://ubuntu:24.04 job.sh

One container per step and node, shared by its tasks. Steps of a job have the
image of the job unless they name another; --ch-image=none runs one on the
host. The script of sbatch runs in the image too.

srun, sbatch, scancel, squeue, sinfo, scontrol, sacct, sstat, sbcast, and where
the host has them sattach, sprio, sreport and seff can be called inside: they
are the host's, and run there, as you, with your directory, variables and
terminal. So mpirun finds srun, too. An image's own come first.
--ch-batch=host leaves the script on the host and its steps in the image.

chariot ps --job 42 lists the containers of a job that runs, and
chariot exec --job 42 -- bash enters one, from the login node too: a shell, or a
debugger of a rank (gdb -p PID).
";

/// Subjects that are no command: a name, and a text whose first line says what it is.
const TOPICS: [(&str, &str); 8] = [
    ("slurm", TOPIC_SLURM),
    (
        "image",
        "\
What an image can be, and how IMAGE is written.

  ./tree            a directory that holds a file system
  ./debian.sqfs     a SquashFS or SIF file
  ./image.tar.gz    a tar archive of a file system, of an OCI layout, or by
                    `docker save`
  oci:DIR[:NAME]    an OCI layout in a directory
  oci-archive:FILE[:NAME]
                    an OCI layout in a tar archive
  docker-archive:FILE[:NAME]
                    what `docker save` and the like write
  dir:DIR           what skopeo's dir: makes
  docker://HOST/NAME:TAG
                    an image in a registry; without HOST, Docker's
  HOST/NAME:TAG, HOST#NAME:TAG
                    the same, if no file here has that name
  NAME              an image in your store (`chariot images`) or the site's;
                    NAME/NAME:TAG is what a pull has stored as NAME+NAME:TAG

A word with ./ or / in front, or that ends as image files do (.sqfs, .sif,
.tar and so on), is a path. Another one is what the store has, then a file or
directory here that nobody else can have put here. ~ and variables are expanded
where no shell has done it, as in #SBATCH lines. Chariot tells formats by their
content, and believes the word before a colon. NAME is
needed if there are several images; it can be a tag, or @ and a number, as
skopeo has it. Anything but a directory, a SquashFS or a SIF file is converted
to SquashFS once, in your cache. `chariot pull` and `chariot pack` convert it
where you want it; `chariot gc` makes room in the cache.
",
    ),
    (
        "env",
        "\
Which variables a command has inside.

Yours, without LD_PRELOAD and LD_LIBRARY_PATH, which are made for the host's
libraries, and without those that name places which the container does not
show; then the image's own; then what you ask for, where the last word counts:

  --set-env NAME=VALUE     or a file of such lines
  --set-env 'PATH=/opt/x:$PATH'
                           before the image's; PREPEND_PATH=/opt/x does it too
  --unset-env 'MODULE*'
  --keep-env LANG,LC_ALL   the host's value wins over the image's

An image never changes what belongs to the task: SLURM_*, PMI*, DISPLAY,
CUDA_VISIBLE_DEVICES and the like. `chariot explain IMAGE` lists each change
and who asked for it.
",
    ),
    (
        "mpi",
        "\
MPI between ranks in containers.

The image's MPI and `srun --mpi=` have to speak the same language: PMIx for
Open MPI, PMI2 for MPICH and its relatives. `chariot check IMAGE` says which
fits. If every rank is rank 0, they do not: each has started alone.

The ranks of a node share one container, so shared memory and CMA work between
them as on the host. /dev, with the network's devices, and PMIx's directories
are in every container.
",
    ),
    (
        "devices",
        "\
GPUs and other devices, by the Container Device Interface (CDI).

  --device nvidia.com/gpu=0   one, by its name; a vendor's tool describes it in
                              /etc/cdi
  --device nvidia.com/gpu     all of a kind
  --device none               none, not even those that Slurm gave the step

In a job, a step to which Slurm gave GPUs has them without asking, if the site
configuration file says what they are called: [gpu] kind. CUDA_VISIBLE_DEVICES
stays what Slurm sets for each task. `chariot explain` lists what a device
brings.

All of the host's /dev is in every container; a device brings the driver's
libraries, programs and variables, and needs nothing of the image: neither
ldconfig nor write permission.
",
    ),
    (
        "edf",
        "\
Options in a file that can be shared: environment definition files.

  srun --ch-edf=pytorch ./train
  chariot run --edf ./pytorch.toml -- ./train

The first looks for pytorch.toml in EDF_PATH, in ~/.edf and in the site's
directories. The file:

  base_environment = \"site-mpi\"
  image = \"nvcr.io#nvidia/pytorch:24.01-py3\"
  mounts = [\"/scratch/${USER}:/scratch\", \"./data.sqfs:/data:sqsh\"]
  workdir = \"/scratch\"
  writable = false
  [env]
  OMP_NUM_THREADS = \"8\"

`chariot edf render NAME` prints the options and where each comes from;
`chariot edf check NAME` reports what is wrong.
",
    ),
    (
        "ch-run",
        "\
Charliecloud's ch-run: scripts that use it can stay as they are.

  ln -s /usr/bin/chariot ~/bin/ch-run

Called like this, Chariot takes the options of Charliecloud's command, with its
environment, default binds and exit codes (31, 49 and 64); ch-image builds with
it. Where ch-run's manual and behaviour differ, this follows the behaviour: HOME
is /root or /, --env-no-expand counts wherever it stands, --feature answers 1
for what is not there.

It differs where ch-run is known to go wrong:

  --join      Tasks share a container by user, job and step, not by the number
              of the step alone. Nothing stays in /dev/shm, whoever dies. A
              SquashFS image stays as long as anybody uses it.
  -b SRC:DST  What the image lacks is made, for a file too. Neither the image
              nor the host is written to.
  -W          Works for images under /srv. The image's directories look as they
              are.
  -m DIR      Is checked and not used: a SquashFS image needs no directory of
              the host.
  --device    Takes YAML too. Hooks are treated as `chariot help devices` says.
  signals     A command that a signal kills dies of it, with SquashFS too. The
              statuses 84 and 87 do not occur.

An image directly below / can be run.
",
    ),
    (
        "packages",
        "\
Installing software in an image, without privilege.

  mkdir changes
  chariot run --root --fakeroot --overlay changes ./debian.sqfs -- \\
    sh -c 'apt-get update && apt-get install -y gcc'
  chariot pack --overlay changes ./debian.sqfs ./debian-gcc.sqfs

--fakeroot pretends that files change owner; all files stay yours. The overlay
needs a local file system. An image that is a directory of somebody else's
cannot be changed: make it a file, or unpack one of your own.
",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_like_no_command() {
        for (name, text) in TOPICS {
            assert!(
                command().find_subcommand(name).is_none() || name == "edf",
                "{name}"
            );
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{name}"
            );
        }
    }
}
