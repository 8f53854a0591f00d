//! What the page for those who come from other programs says of jobs.

use crate::support::examples::examples;
use crate::support::registry::{Access, Registry, plain};
use crate::{site, support};

#[test]
#[ignore = "alone: changes the site's file"]
fn every_job_of_the_page_for_newcomers_works() {
    let site = site!();
    let Some(registry) = Registry::start(Access::Plain) else {
        crate::skip!("no registry: tests/run prepares one");
    };
    let image = support::images().unwrap().join("busybox.sqfs");
    site.run(&format!("cp {} small.sqfs", image.display())).ok();
    let commands = examples(&["srun ", "sbatch "], &registry.host);
    assert_eq!(commands.len(), 10, "{commands:#?}");
    site.with_file(&plain(&registry.host), || {
        for command in &commands {
            let said = site.run(command);
            assert_eq!(said.code, 0, "{command}: {said:#?}");
        }
    });
    site.nodes_are_fine();
}
