//! Colour and tables: what a terminal gets and a file does not.
//!
//! Input: whether standard output is a terminal, and `NO_COLOR`. Output: text, with escape codes where they are welcome.

use std::io::{self, IsTerminal, Write};

/// What standard output is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether a person looks at it: columns are aligned.
    terminal: bool,
    /// Whether colour is welcome besides.
    colour: bool,
}

/// What a piece of text is, rather than its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A heading, or the name of what follows.
    Heading,
    /// An added line; all is well.
    Good,
    /// A removed line; something is wrong.
    Bad,
    /// A place in a file.
    Place,
}

/// Whether colour is welcome (<https://no-color.org>); whether there is a terminal is asked by who writes.
pub fn colour_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

impl Style {
    /// No colour, no alignment.
    pub const PLAIN: Self = Self { terminal: false, colour: false };

    /// That of the process's standard output.
    pub fn stdout() -> Self {
        let terminal = io::stdout().is_terminal();
        Self { terminal, colour: terminal && colour_wanted() }
    }

    /// Whether escape codes are written.
    pub const fn is_coloured(self) -> bool {
        self.colour
    }

    /// The text in its tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Place => "36",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Rows of columns: aligned on a terminal, else with a tab between columns, which `cut` and `awk` take apart.
    pub fn table<const N: usize>(self, rows: &[[String; N]], out: &mut impl Write) -> io::Result<()> {
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in rows {
            if !self.terminal {
                writeln!(out, "{}", row.join("\t"))?;
                continue;
            }
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
                let padding = " ".repeat(width - cell.chars().count() + 2);
                let cell = if index == 0 { self.paint(Tone::Heading, cell) } else { cell.clone() };
                line.push_str(&cell);
                line.push_str(&padding);
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Style, Tone};

    fn table(style: Style) -> String {
        let rows = [["a".to_owned(), "one".to_owned()], ["long".to_owned(), "two".to_owned()]];
        let mut out = Vec::new();
        style.table(&rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_terminal_gets_aligned_columns_and_a_file_gets_tabs() {
        assert_eq!(table(Style::PLAIN), "a\tone\nlong\ttwo\n");
        assert_eq!(table(Style { terminal: true, colour: false }), "a     one\nlong  two\n");
        let coloured = table(Style { terminal: true, colour: true });
        assert_eq!(coloured, "\x1b[1ma\x1b[0m     one\n\x1b[1mlong\x1b[0m  two\n");
    }

    #[test]
    fn escape_codes_are_written_only_where_colour_is_welcome() {
        assert_eq!(Style::PLAIN.paint(Tone::Bad, "x"), "x");
        assert_eq!(Style { terminal: true, colour: true }.paint(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }
}
