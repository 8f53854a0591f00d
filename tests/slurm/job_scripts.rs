//! Job scripts of real life, tests/corpus/jobs: what they give on the host they give in an image. None of them has a word of
//! Chariot's; each writes into `result` what must be the same.

use std::path::Path;
use std::process::Command;

use crate::{Site, site, skip, support};

const CORPUS: &str = "tests/corpus/jobs";

/// A test for each script, and their names.
macro_rules! scripts {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                gives_the_same_in_an_image(stringify!($name));
            }
        )*
    };
}

scripts! {
    array_chain bashrc conda dask env_split environment_of_steps gpus gromacs here_document het_job java julia jupyter
    licence_server locked_file login_shells_of_steps machine_file module_load modules_in_login_shell multi_prog nextflow
    node_local_scratch openfoam openmp output_files parameter_study perl_script pipes_and_fifos posix_login_shell posix_shell
    pytorch_srun pytorch_torchrun questions_of_slurm r_batch requeue_by_signal scratch_with_trap signals snakemake
    spark_standalone strict_shell submit_directory symbolic_links task_farm venv wrap
}

#[test]
fn every_script_of_the_corpus_is_a_test() {
    let _site = site!();
    let mut found: Vec<_> = std::fs::read_dir(CORPUS)
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".sh").map(str::to_owned)
        })
        .collect();
    found.sort_unstable();
    assert_eq!(found, NAMES);
}

/// Where a job's script and its steps run: on the host; in an image; the script on the host and its steps in an image.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Host,
    Image,
    Steps,
}

/// What became of a job: what it wrote that must be the same, with how it ended; and all that can tell why it is not.
struct Became {
    result: String,
    all: String,
}

/// A script, and the image that has what it names in its first line: the small one has no bash and no Perl.
struct Script {
    text: String,
    image: String,
}

impl Script {
    fn new(name: &str) -> Option<Script> {
        let text = std::fs::read_to_string(format!("{CORPUS}/{name}.sh")).unwrap();
        if text.starts_with("#!/bin/sh") {
            let image = support::busybox()?;
            return Some(Script { text, image });
        }
        let image = support::images()?.join("debian");
        let image = image.exists().then(|| image.display().to_string())?;
        Some(Script { text, image })
    }

    /// The options of sbatch. Who names their home directory shows it to the image, as sites do for all. The steps have the
    /// image by a variable, unless the script says itself which variables it gets.
    fn options(&self, way: Way) -> String {
        let image = &self.image;
        let names_home = self.text.contains("~/") || self.text.contains("$HOME");
        let bind = |text| if names_home { text } else { "" };
        match way {
            Way::Host => String::new(),
            Way::Image => format!("--ch-image={image} {}", bind("--ch-bind=$HOME")),
            Way::Steps if self.says_variables() => format!(
                "--ch-image={image} --ch-batch=host {}",
                bind("--ch-bind=$HOME")
            ),
            Way::Steps => format!("--export=ALL,CH_IMAGE={image}{}", bind(",CH_BIND=$HOME")),
        }
    }

    fn says_variables(&self) -> bool {
        let mut lines = self.text.lines();
        lines.any(|line| line.starts_with("#SBATCH") && line.contains("--export"))
    }

    /// Submits it in directories of its own, as from a login shell, and waits for its end. What a workflow submits from an
    /// image runs there too.
    fn submit(&self, site: &Site, way: Way) -> Became {
        let place = site.here().join(format!("{way:?}"));
        self.prepare(&place);
        let inherit = if way == Way::Host {
            ""
        } else {
            "export CH_INHERIT=yes;"
        };
        let said = site.run(&format!(
            "export HOME={}/home; cd; . ~/.bash_profile; cd ../work; {inherit}
             job=$(sbatch --parsable {} job.sh) || exit
             while [ \"$(squeue -h -j $job -o %i)\" ]; do sleep 0.4; done
             scontrol show job $job | grep -oE '(JobState|ExitCode)=[^ ]*' | sort; cat result",
            place.display(),
            self.options(way),
        ));
        let files = support::shell("cd work && head -n 30 *.log *.out *.err", &place, &[]);
        let all = format!("{}{}{}", said.out, said.err, files.out);
        Became {
            result: said.out,
            all,
        }
    }

    fn prepare(&self, place: &Path) {
        std::fs::create_dir_all(place.join("work")).unwrap();
        std::fs::write(place.join("work/job.sh"), &self.text).unwrap();
        let place = place.display();
        let mut copy = format!("cp -a {CORPUS}/home {place}/home");
        if let Some(user) = support::user() {
            copy += &format!(" && chown -R {user}: {place}");
        }
        let status = Command::new("sh").args(["-c", &copy]).status();
        assert!(status.unwrap().success());
    }
}

fn gives_the_same_in_an_image(name: &str) {
    let site = site!();
    let Some(script) = Script::new(name) else {
        skip!("no Debian image: tests/run makes one");
    };
    let [host, image, steps] = std::thread::scope(|scope| {
        let ways = [Way::Host, Way::Image, Way::Steps];
        let jobs = ways.map(|way| {
            let (site, script) = (&site, &script);
            scope.spawn(move || script.submit(site, way))
        });
        jobs.map(|job| job.join().unwrap())
    });
    for (way, other) in [(Way::Image, image), (Way::Steps, steps)] {
        assert!(
            other.result == host.result,
            "{way:?}: {}\non the host: {}",
            other.all,
            host.all
        );
    }
    site.nodes_are_fine();
}
