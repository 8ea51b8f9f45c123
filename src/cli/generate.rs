//! `packetboat generate` writes man pages and shell completions, for packages.

use std::path::PathBuf;

use clap::CommandFactory;

use super::Arguments as Program;
use super::error::{CommandError, Exit};
use super::output::print;

#[derive(clap::Subcommand)]
pub(super) enum Artifact {
    /// Write the man pages into a directory
    Man {
        /// Write into this directory, which must exist
        directory: PathBuf,
    },
    /// Print completions for a shell
    Completions {
        /// Generate for this shell
        shell: clap_complete::Shell,
    },
}

pub(super) fn generate(what: &Artifact) -> Result<(), CommandError> {
    let mut program = Program::command();
    match what {
        Artifact::Man { directory } => clap_mangen::generate_to(program, directory)
            .map_err(|error| Exit::IoError.because(format_args!("{}: {error}", directory.display()))),
        Artifact::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut program, "packetboat", &mut text);
            print(String::from_utf8_lossy(&text))
        }
    }
}
