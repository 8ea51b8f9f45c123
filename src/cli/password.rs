//! `packetboat password` makes a password for a device, and the hash that belongs in the configuration.

use std::io::BufRead;

use zeroize::Zeroizing;

use super::error::{CommandError, Exit};
use super::output::{print, print_error};
use crate::device::password;
use crate::text;

#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    secret: Secret,
}

/// The password of a device: generated, or read.
#[derive(clap::Args)]
pub(super) struct Secret {
    /// Set the number of letters and digits; many devices accept no more than 15
    #[arg(short, long, default_value_t = password::LENGTH, value_parser = clap::value_parser!(u8).range(8..=31))]
    length: u8,
    /// Read the password from standard input (one line) instead of generating one
    #[arg(long, conflicts_with = "length")]
    stdin: bool,
    /// Allow fewer than 8 characters, for a PIN that you cannot change; the `[[device]]` then needs `networks`
    #[arg(long, requires = "stdin")]
    allow_short: bool,
}

pub(super) fn make(arguments: &Arguments) -> Result<(), CommandError> {
    let secret = &arguments.secret;
    let password = secret.password()?;
    let hash = secret.hash(&password)?;
    if secret.stdin {
        return print(format_args!("{hash}\n"));
    }
    let text = Zeroizing::new(format!(
        "password  {}\nhash      {hash}\n\nType the password into the device; packetboat does not keep it. Put the hash into \
         the [[device]]:\n  passwords = [\"{hash}\"]\n",
        password.as_str(),
    ));
    print(text.as_str())
}

impl Secret {
    /// Generates the password, or reads it. A weakness of one that was read is an error, or a warning where it is allowed.
    pub(super) fn password(&self) -> Result<Zeroizing<String>, CommandError> {
        if !self.stdin {
            return password::generate(usize::from(self.length)).map_err(|error| Exit::OsError.because(error));
        }
        let password = read()?;
        let is_short = is_short(&password);
        if is_short && !self.allow_short {
            return Err(Exit::Usage.because(
                "the password has fewer than 8 characters: that is soon guessed; let packetboat make one. For a device whose PIN \
                 must stay: --allow-short",
            ));
        }
        if is_short {
            print_error(
                "warning: the password has fewer than 8 characters and is soon guessed. Its hash is marked so: the [[device]] needs \
                 networks = [\"192.168.1.20/32\"], with the device's own address",
            );
        }
        if !password.is_ascii() {
            print_error(
                "warning: the password has characters beyond ASCII. packetboat takes them in UTF-8 and in Latin-1 (Windows-1252), \
                 but a device may send something else, or nothing: letters and digits are safe",
            );
        }
        Ok(password)
    }

    /// The hash of a password that this has returned. The hash of a short one is marked.
    pub(super) fn hash(&self, password: &str) -> Result<String, CommandError> {
        let hash = if is_short(password) { password::hash_short } else { password::hash };
        hash(password.as_bytes()).map_err(|error| Exit::OsError.because(error))
    }
}

fn is_short(password: &str) -> bool {
    password.chars().count() < SHORTEST
}

fn read() -> Result<Zeroizing<String>, CommandError> {
    let mut input = Zeroizing::new(Vec::with_capacity(LONGEST));
    let read = std::io::stdin().lock().read_until(b'\n', &mut input);
    read.map_err(|error| Exit::IoError.because(format_args!("cannot read the password from standard input: {error}")))?;
    let why = match text::one_line(&input) {
        Ok("") => "there is no password on standard input".to_owned(),
        Ok(password) => return Ok(Zeroizing::new(password.to_owned())),
        Err(why) => format!("the password {why}"),
    };
    Err(Exit::Usage.because(why))
}

const SHORTEST: usize = 8;
const LONGEST: usize = 1024;
