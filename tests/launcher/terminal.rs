//! `chariot shell` on a terminal, as a person sees it: screens of tmux(1), compared as text.

use std::time::{Duration, Instant};

use crate::support::until;
use crate::{Place, place, skip};

/// A terminal that shows what a command shows. It ends with the test.
struct Terminal<'a>(&'a Place);

impl Terminal<'_> {
    /// A terminal of 60 columns and 12 lines, which stays when its command has ended, and says how.
    fn start<'a>(place: &'a Place, command: &str) -> Option<Terminal<'a>> {
        if place.run("command -v tmux").code != 0 {
            return None;
        }
        let terminal = Terminal(place);
        terminal.tmux(&format!(
            "-f /dev/null new-session -d -x 60 -y 12 '{command}; echo ended with $?; exec sleep 1000'"
        ));
        Some(terminal)
    }

    #[track_caller]
    fn tmux(&self, words: &str) -> String {
        let said = self.0.run(&format!("export C; tmux -S terminal {words}"));
        said.ok().to_owned()
    }

    /// Types keys by their names, and other words as they are.
    #[track_caller]
    fn types(&self, keys: &str) {
        self.tmux(&format!("send-keys {keys}"));
    }

    /// What is on the screen. Whoever is root in a container has another prompt.
    #[track_caller]
    fn screen(&self) -> String {
        self.tmux("capture-pane -p").replace("(img) #", "(img) $")
    }

    /// Waits until the lines are on the screen, and no others.
    #[track_caller]
    fn shows(&self, lines: &[&str]) {
        let expected = lines.join("\n");
        let is_so = || self.screen().trim_end() == expected;
        let deadline = Instant::now() + Duration::from_secs(30);
        while !is_so() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(self.screen().trim_end(), expected);
    }

    /// Types keys until the command has ended, and tells its status: a shell overhears what is typed while it waits for the
    /// terminal to say where its cursor is.
    #[track_caller]
    fn ends_by(&self, keys: &str) -> String {
        for _ in 0..20 {
            self.types(keys);
            for _ in 0..20 {
                let screen = self.screen();
                if let Some((_, status)) = screen.rsplit_once("ended with ") {
                    return status.trim().to_owned();
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        panic!("it does not end: {}", self.screen());
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.0.run("tmux -S terminal kill-server");
    }
}

/// A shell on a terminal in the container's root, without what it says first, or a skip.
macro_rules! shell {
    ($place:ident) => {
        match Terminal::start(&$place, "$C shell --workdir / ./img") {
            Some(terminal) => {
                until("the prompt", || {
                    terminal.screen().trim_end().ends_with("\n(img) $")
                });
                terminal.types("C-l");
                terminal.shows(&["(img) $"]);
                terminal
            }
            None => skip!("no tmux: tests/tools/install-packages installs it"),
        }
    };
}

#[test]
fn a_shell_has_its_prompt_runs_what_is_typed_and_ends_as_it_was_told() {
    let place = place!();
    let terminal = shell!(place);
    terminal.types("'echo hello' Enter");
    terminal.shows(&["(img) $ echo hello", "hello", "(img) $"]);
    assert_eq!(terminal.ends_by("C-u 'exit 3' Enter"), "3");
    drop(terminal);
    let terminal = shell!(place);
    assert_eq!(terminal.ends_by("C-u C-d"), "0");
}

#[test]
fn keys_that_interrupt_and_stop_reach_the_command_and_not_the_shell() {
    let place = place!();
    let terminal = shell!(place);
    // It says when it is the one that the terminal's keys are for.
    let command = "(echo up; exec sleep 1000)";
    terminal.types(&format!("'{command}' Enter"));
    let first = format!("(img) $ {command}");
    terminal.shows(&[&first, "up"]);
    terminal.types("C-c");
    terminal.shows(&[&first, "up", "^C", "(img) $"]);
    terminal.types("'echo $?' Enter");
    terminal.shows(&[&first, "up", "^C", "(img) $ echo $?", "130", "(img) $"]);
    terminal.types(&format!("C-l '{command}' Enter"));
    terminal.shows(&[&first, "up"]);
    terminal.types("C-z");
    until("the shell is back", || {
        let screen = terminal.screen();
        screen.contains("^Z[1]+  Stopped") && screen.trim_end().ends_with("\n(img) $")
    });
}

#[test]
fn a_command_sees_how_large_the_terminal_is_now() {
    let place = place!();
    let terminal = shell!(place);
    terminal.types("'busybox stty size' Enter");
    terminal.shows(&["(img) $ busybox stty size", "12 60", "(img) $"]);
    terminal.tmux("resize-window -x 70 -y 20");
    terminal.types("C-l 'busybox stty size' Enter");
    terminal.shows(&["(img) $ busybox stty size", "20 70", "(img) $"]);
}
