//! Tables for people, which fit the terminal that shows them.

use chariot_core::escape;

/// Between two columns.
const GAP: &str = "  ";

/// A column.
pub(super) struct Column {
    pub(super) head: &'static str,
    /// Numbers stand at the right.
    pub(super) is_number: bool,
    /// Those with higher numbers are left out first where there is no room; 0 stays.
    pub(super) spare: u8,
}

impl Column {
    pub(super) const fn text(head: &'static str, spare: u8) -> Column {
        Column {
            head,
            is_number: false,
            spare,
        }
    }

    pub(super) const fn number(head: &'static str, spare: u8) -> Column {
        Column {
            head,
            is_number: true,
            spare,
        }
    }
}

/// The lines. Where there is less room than `width` columns are left out, and what is too long at the end is cut.
pub(super) fn lines(columns: &[Column], rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            row.iter()
                .map(|cell| escape::line(cell).into_owned())
                .collect()
        })
        .collect();
    let widest = |number: usize| {
        let cells = rows.iter().filter_map(|row| row.get(number));
        let widths = cells.map(|cell| cell.chars().count());
        widths.max().unwrap_or(0).max(columns[number].head.len())
    };
    let mut shown: Vec<(usize, usize)> = (0..columns.len())
        .map(|number| (number, widest(number)))
        .collect();
    let total = |shown: &[(usize, usize)]| {
        shown
            .iter()
            .map(|(_, width)| width + GAP.len())
            .sum::<usize>()
            - GAP.len()
    };
    while width.is_some_and(|width| total(&shown) > width) {
        let most = shown
            .iter()
            .max_by_key(|(number, _)| columns[*number].spare);
        match most {
            Some(&(number, _)) if columns[number].spare > 0 => {
                shown.retain(|(other, _)| *other != number)
            }
            _ => break,
        }
    }
    let heads = columns
        .iter()
        .map(|column| column.head.to_owned())
        .collect();
    let line = |row: &Vec<String>| {
        let cells = shown.iter().map(|&(number, width)| {
            let cell = row.get(number).map_or("", String::as_str);
            match columns[number].is_number {
                true => format!("{cell:>width$}"),
                false => format!("{cell:width$}"),
            }
        });
        let line = cells.collect::<Vec<_>>().join(GAP);
        cut(line.trim_end(), width)
    };
    std::iter::once(&heads).chain(&rows).map(line).collect()
}

fn cut(line: &str, width: Option<usize>) -> String {
    match width {
        Some(width) if line.chars().count() > width => line
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect(),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_no_wider_than_its_terminal_and_whole_elsewhere() {
        let column = |head, is_number, spare| Column {
            head,
            is_number,
            spare,
        };
        let columns = [
            column("NAME", false, 0),
            column("SIZE", true, 0),
            column("MADE", false, 2),
            column("FROM", false, 1),
        ];
        let row = |name: &str| {
            ["7 B", "2 days", "docker://a"]
                .iter()
                .fold(vec![name.to_owned()], |mut row, cell| {
                    row.push((*cell).to_owned());
                    row
                })
        };
        let rows = [row("debian"), row("x\u{1b}")];
        let at = |width| lines(&columns, &rows, width);
        assert_eq!(at(None)[1], "debian   7 B  2 days  docker://a");
        assert_eq!(at(None)[2], "x\\x1b    7 B  2 days  docker://a");
        assert_eq!(at(Some(25))[0], "NAME    SIZE  FROM");
        assert_eq!(
            at(Some(13)),
            ["NAME    SIZE", "debian   7 B", "x\\x1b    7 B"]
        );
        assert_eq!(at(Some(5))[1], "debi…");
    }
}
