//! A manual page in roff, man(7).

use std::fmt::Write;

/// A page as far as it is written.
pub(super) struct Page(String);

impl Page {
    /// Begins a page with its line in the index, `name - about`.
    pub(super) fn new(name: &str, section: u8, about: &str) -> Page {
        let version = env!("CARGO_PKG_VERSION");
        let title = format!(
            ".TH {} {section} \"\" \"Chariot {version}\"\n",
            escaped(name)
        );
        let mut page = Page(title);
        page.section("NAME");
        // What indexes manuals wants the name as it is.
        page.line(&format!("{} \\- {}", escaped(name), marked(about)));
        page
    }

    fn line(&mut self, line: &str) {
        // Writing into a text does not fail.
        let _ = writeln!(self.0, "{line}");
    }

    pub(super) fn section(&mut self, title: &str) {
        self.line(&format!(".SH {title}"));
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS \"{}\"", escaped(title)));
    }

    /// Paragraphs as help has them: a line that begins with blanks is shown as it stands.
    pub(super) fn text(&mut self, text: &str) {
        for paragraph in text.trim_end().split("\n\n") {
            self.line(".PP");
            self.lines(paragraph);
        }
    }

    fn lines(&mut self, lines: &str) {
        let mut is_literal = false;
        for line in lines.lines() {
            if line.starts_with("  ") != is_literal {
                is_literal = !is_literal;
                self.line(if is_literal { ".RS 4\n.nf" } else { ".fi\n.RE" });
            }
            match is_literal {
                true => self.line(&escaped(line.strip_prefix("  ").unwrap_or(line))),
                false => self.line(&marked(line)),
            }
        }
        if is_literal {
            self.line(".fi\n.RE");
        }
    }

    /// Terms in bold, and under them what they are.
    pub(super) fn item(&mut self, terms: &[String], text: &str) {
        for (index, term) in terms.iter().enumerate() {
            self.line(if index == 0 { ".TP" } else { ".TQ" });
            self.line(&format!("\\fB{}\\fR", escaped(term)));
        }
        let mut paragraphs = text.trim_end().split("\n\n");
        self.lines(paragraphs.next().unwrap_or_default());
        for paragraph in paragraphs {
            self.line(".IP");
            self.lines(paragraph);
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Text as it stands: hyphens that can be searched for and copied, nothing that roff would obey.
fn escaped(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('"', "\\(dq")
        .replace('…', "...");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// The same, and what is between backticks is bold.
fn marked(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| match index % 2 {
        1 => format!("\\fB{}\\fR", escaped(part).trim_start_matches("\\&")),
        _ if index > 0 => escaped(part).trim_start_matches("\\&").to_owned(),
        _ => escaped(part),
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_obeyed() {
        assert_eq!(escaped(".so /etc/x-y"), "\\&.so /etc/x\\-y");
        assert_eq!(escaped("a\\b \"c\""), "a\\eb \\(dqc\\(dq");
        assert_eq!(marked("`.x` and `-y`"), "\\fB.x\\fR and \\fB\\-y\\fR");
        let mut page = Page::new("x", 1, "y");
        page.text("'z\n  .literal\nend");
        assert!(
            page.finish()
                .ends_with(".PP\n\\&'z\n.RS 4\n.nf\n\\&.literal\n.fi\n.RE\nend\n")
        );
    }
}
