//! What the page for those who come from other programs says.

use crate::place;
use crate::support::examples::examples;
use crate::support::registry::{Access, Registry, plain};

#[test]
fn every_command_of_the_page_for_newcomers_works() {
    let place = place!();
    let Some(registry) = Registry::start(Access::Plain) else {
        crate::skip!("no registry: tests/run prepares one");
    };
    std::fs::write(place.here().join("site.toml"), plain(&registry.host)).unwrap();
    let launcher = format!(
        "{} --config {}",
        place.launcher,
        place.here().join("site.toml").display()
    );
    let commands = examples(&["chariot "], &registry.host);
    assert!(commands.len() >= 30, "{commands:#?}");
    for command in commands {
        let script = format!("chariot() {{ $R \"$@\"; }}; {command}");
        let said = place.run_with(&script, &[("R", &launcher)]);
        assert_eq!(said.code, 0, "{command}: {said:#?}");
    }
}
