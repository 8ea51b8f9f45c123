//! `packetboat generate`: what packages bring along: man pages and shell completions.

use std::path::PathBuf;

use clap::CommandFactory;

use super::output::{answer, complain};
use super::{Arguments as Program, Exit};

#[derive(clap::Subcommand)]
pub(super) enum What {
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

pub(super) fn generate(what: &What) -> Result<(), Exit> {
    let mut program = Program::command();
    match what {
        What::Man { directory } => clap_mangen::generate_to(program, directory).map_err(|error| {
            complain(format_args!("{}: {error}", directory.display()));
            Exit::IoError
        }),
        What::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(*shell, &mut program, "packetboat", &mut text);
            answer(String::from_utf8_lossy(&text))
        }
    }
}
