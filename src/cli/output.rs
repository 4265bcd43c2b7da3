//! Where and how results are printed. IO: standard output.
//!
//! Input: `-o` and what a command found. Output: text for people or JSON for programs, on a standard output whose reader may
//! leave early (`| head`).

use std::io::{self, ErrorKind, StderrLock, StdoutLock, Write};

use serde::Serialize;

use crate::admission::review::one_line;

/// How findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The flag `-o`, the same for every command that prints findings.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct OutputArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: Format,
}

/// Writes one JSON document.
pub fn json(out: &mut impl Write, value: &impl Serialize) -> anyhow::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(value)?)?;
    Ok(())
}

/// A text of several lines without what a terminal would obey: errors quote clusters, receivers and manifests.
pub fn printable(text: &str) -> String {
    text.lines().map(|line| one_line(&line, usize::MAX)).collect::<Vec<_>>().join("\n")
}

/// Standard output or error. Once its reader is gone the rest is discarded: that is no failure, and the exit code stays what the whole
/// of the command found.
#[derive(Debug)]
pub struct Results<W> {
    out: W,
    name: &'static str,
    reader_gone: bool,
}

impl Results<StdoutLock<'static>> {
    /// The process's standard output.
    pub fn stdout() -> Self {
        Self::new(io::stdout().lock(), "standard output")
    }
}

impl Results<StderrLock<'static>> {
    /// The process's standard error: what is told beside the results, which must not cost them.
    pub fn stderr() -> Self {
        Self::new(io::stderr().lock(), "standard error")
    }
}

impl<W: Write> Results<W> {
    const fn new(out: W, name: &'static str) -> Self {
        Self { out, name, reader_gone: false }
    }

    fn unless_gone<T>(&mut self, discarded: T, write: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.reader_gone {
            return Ok(discarded);
        }
        match write(&mut self.out) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.reader_gone = true;
                Ok(discarded)
            }
            // `write_all` tries these again.
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                Err(io::Error::new(error.kind(), format!("{} cannot be written: {error}", self.name)))
            }
            written => written,
        }
    }
}

impl<W: Write> Write for Results<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_gone(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_gone((), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind, Write};

    use super::Results;

    /// Takes some bytes, then fails.
    struct Limited {
        room: usize,
        error: ErrorKind,
        attempts: usize,
    }

    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.attempts += 1;
            if self.room == 0 {
                return Err(self.error.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_nobody_reads_is_discarded_without_an_error() {
        let mut results =
            Results::new(Limited { room: 3, error: ErrorKind::BrokenPipe, attempts: 0 }, "standard output");
        results.write_all(b"four").unwrap();
        results.write_all(b"more").unwrap();
        results.flush().unwrap();
        assert_eq!((results.out.room, results.out.attempts), (0, 2));
    }

    #[test]
    fn what_cannot_be_written_is_an_error_that_names_standard_output() {
        let mut results =
            Results::new(Limited { room: 0, error: ErrorKind::StorageFull, attempts: 0 }, "standard output");
        let error = results.write_all(b"text").unwrap_err().to_string();
        assert!(error.starts_with("standard output cannot be written: "), "{error}");
    }
}
