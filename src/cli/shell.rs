//! `promsidecar completions` and `promsidecar man`: what shells and `man` know of the command line. IO: `man --out` writes
//! files.
//!
//! Input: the command line's own definition. Output: a completion script, or manual pages in roff.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, values};
use crate::webhook::run::{PUBLIC, write_atomically};

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell that reads the script.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints a completion script.
pub fn completions(args: &CompletionsArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    // The generator panics where a write fails, and nothing fails in memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "promsidecar", &mut script);
    out.write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder for the main page and one page a subcommand; it is made if it is missing. Without it the main page is printed.
    #[arg(long, value_name = "DIR", value_parser = values::path)]
    out: Option<PathBuf>,
}

/// Prints the main page, or writes all of them.
pub fn man(args: &ManArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let pages = pages();
    let Some(folder) = &args.out else {
        let main = pages.into_iter().next().context("the command line has no page")?;
        page(main).render(out)?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(folder).with_context(|| format!("--out {} cannot be made", folder.display()))?;
    for command in pages {
        let man = page(command);
        let file = folder.join(man.get_filename());
        let mut text = Vec::new();
        man.render(&mut text)?;
        write_atomically(&file, &text, PUBLIC)
            .with_context(|| format!("--out {}: {} cannot be written", folder.display(), file.display()))?;
        writeln!(out, "{}", file.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(command: Command) -> Man {
    Man::new(command).source(concat!("promsidecar ", env!("CARGO_PKG_VERSION")))
}

/// The command and its subcommands, each named as its page is.
fn pages() -> Vec<Command> {
    let mut main = Cli::command().disable_help_subcommand(true);
    main.build();
    let mut pages = Vec::new();
    add_pages(&main, "promsidecar", &mut pages);
    pages
}

fn add_pages(command: &Command, name: &str, pages: &mut Vec<Command>) {
    pages.push(command.clone().disable_help_subcommand(true).display_name(name));
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        add_pages(subcommand, &format!("{name}-{}", subcommand.get_name()), pages);
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, ValueEnum};
    use clap_complete::Shell;

    use super::{Cli, CompletionsArgs, ManArgs, completions, man};

    fn subcommands() -> Vec<String> {
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
    }

    #[test]
    fn every_shell_gets_a_script_that_knows_every_subcommand() {
        for shell in Shell::value_variants() {
            let mut out = Vec::new();
            completions(&CompletionsArgs { shell: *shell }, &mut out).unwrap();
            let script = String::from_utf8(out).unwrap();
            for command in subcommands() {
                assert!(script.contains(&command), "{shell}: {command}");
            }
        }
    }

    #[test]
    fn there_is_a_page_for_the_program_and_for_every_subcommand() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("man1");
        let mut printed = Vec::new();
        man(&ManArgs { out: Some(out.clone()) }, &mut printed).unwrap();
        let mut expected: Vec<_> =
            subcommands().iter().map(|command| format!("promsidecar-{command}.1")).collect();
        expected.insert(0, "promsidecar.1".to_owned());
        let rollout = expected.iter().position(|page| page == "promsidecar-rollout.1").unwrap();
        let below = ["promsidecar-rollout-plan.1", "promsidecar-rollout-run.1"].map(str::to_owned);
        let after = expected.split_off(rollout + 1);
        expected.extend(below.into_iter().chain(after));
        let files: Vec<_> = expected.iter().map(|name| out.join(name).display().to_string()).collect();
        assert_eq!(String::from_utf8(printed).unwrap().lines().collect::<Vec<_>>(), files);
        let lint = std::fs::read_to_string(out.join("promsidecar-lint.1")).unwrap();
        for part in [".TH promsidecar-lint 1", r"\-\-filename"] {
            assert!(lint.contains(part), "{part:?} is missing in {lint}");
        }

        let mut main = Vec::new();
        man(&ManArgs { out: None }, &mut main).unwrap();
        assert_eq!(main, std::fs::read(out.join("promsidecar.1")).unwrap());
    }
}
