//! Commands print to standard output and standard error here, and nowhere else.
//!
//! Both take [`Printable`] text, so that nothing from a file, a peer or an endpoint reaches a terminal as an escape.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::os::unix::fs::MetadataExt as _;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::error::{CommandError, Exit};
use crate::config::{Problem, Proven};
use crate::diagnostic::{Diagnostic, Fault};
use crate::text::Printable;

/// Prints a message to standard error, each line with its level in the journal.
pub(super) fn print_error(message: impl Into<Printable>) {
    // A closed standard error has no reader, so a failed write is ignored.
    let level = if is_journal() { "<3>" } else { "" };
    for line in message.into().as_str().lines() {
        let _ = writeln!(stderr().lock(), "{level}{line}");
    }
}

/// The error of diagnostics, each on a line with the line of its key in the file.
pub(super) fn diagnostics_error(proven: &Proven, found: &[Diagnostic]) -> CommandError {
    problems_error(exit_of(found), &proven.problems(found))
}

/// The exit code of diagnostics: a mistake in the file itself comes first.
pub(super) fn exit_of(found: &[Diagnostic]) -> Exit {
    if found.iter().any(|one| one.fault == Fault::File) { Exit::Config } else { Exit::Unavailable }
}

/// The error of problems with a configuration, each on a line.
pub(super) fn problems_error(exit: Exit, problems: &[Problem]) -> CommandError {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    exit.because(lines.join("\n"))
}

/// Prints a command's result to standard output.
pub(super) fn print(text: impl Into<Printable>) -> Result<(), CommandError> {
    write(text.into().as_str().as_bytes())
}

/// Prints a certificate in DER, but not to a terminal: names in it are the issuer's, and could hold escape sequences.
pub(super) fn print_der(certificate: &[u8]) -> Result<(), CommandError> {
    if stdout().is_terminal() {
        return Err(Exit::Usage.because("DER is no text for a terminal: write it to a file, with --output FILE"));
    }
    write(certificate)
}

/// Prints octets of others as they are; to a terminal as printable text.
pub(super) fn print_octets(octets: &[u8]) -> Result<(), CommandError> {
    if stdout().is_terminal() {
        return print(Printable::lines(String::from_utf8_lossy(octets)));
    }
    write(octets)
}

/// Returns whether standard output is a terminal, which shows colours.
pub(super) fn has_colours() -> bool {
    stdout().is_terminal()
}

/// Hides values in an error about arguments: a password given by mistake must not reach a service's log.
fn hide_values(error: &mut clap::Error) {
    // Names of options look like this; a password seldom does.
    let is_option = |text: &str| text.starts_with('-') && text.bytes().all(|b| b == b'-' || b.is_ascii_lowercase());
    let is_known = error.kind() != ErrorKind::UnknownArgument;
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidSubcommand, ContextKind::InvalidArg] {
        let is_value = match error.get(kind) {
            Some(ContextValue::String(text)) => {
                kind != ContextKind::InvalidArg
                    || !(is_option(text) || is_known && (text.starts_with('-') || text.starts_with('<')))
            }
            _ => false,
        };
        if is_value {
            error.insert(kind, ContextValue::String("...".to_owned()));
            // Suggestions repeat it.
            error.insert(ContextKind::Suggested, ContextValue::None);
        }
    }
}

/// Returns whether standard error leads to the journal (systemd.exec(5), JOURNAL_STREAM): device and inode.
pub(super) fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|own| stream == format!("{}:{}", own.dev(), own.ino()))
}

fn write(octets: &[u8]) -> Result<(), CommandError> {
    let mut output = stdout().lock();
    let written = output.write_all(octets).and_then(|()| output.flush());
    written.map_err(|error| Exit::IoError.because(format_args!("cannot write to standard output: {error}")))
}

/// Prints the help, or a mistake in the arguments. The latter repeats options, and is printed without colours where
/// these hold escape sequences.
pub(super) fn print_usage(mut error: clap::Error) -> Result<(), CommandError> {
    let is_asked_for = !error.use_stderr();
    hide_values(&mut error);
    let text = error.render().to_string();
    if is_asked_for || Printable::lines(&text).as_str() == text {
        // An error that cannot be printed leaves nothing else to do.
        let _ = error.print();
    } else {
        print_error(&text);
    }
    if is_asked_for { Ok(()) } else { Err(Exit::Usage.into()) }
}
