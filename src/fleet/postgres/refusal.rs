//! The errors of tokio-postgres and of the server become the fleet's, by the codes of PostgreSQL's appendix A.

use std::error::Error as _;

use tokio_postgres::error::SqlState;

use crate::config::fleet::Database;
use crate::fleet::error::Error;
use crate::text::excerpt;

/// Returns whether the login failed because the server wants a password and none was given. tokio-postgres has no kind
/// for it that others can see.
pub(super) fn wants_password(error: &tokio_postgres::Error) -> bool {
    error.source().is_some_and(|source| source.to_string().contains("password missing"))
}

pub(super) fn error(error: &tokio_postgres::Error, database: &Database) -> Error {
    let Some(refusal) = error.as_db_error() else {
        let why = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        return Error::Lost(excerpt(why.as_bytes()));
    };
    let message = excerpt(refusal.message().as_bytes());
    match refusal.code() {
        &SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            Error::Login { user: database.user.clone(), message }
        }
        // pgbouncer has this code for all that it refuses at a login.
        &SqlState::PROTOCOL_VIOLATION if is_about_login(&message) => {
            Error::Login { user: database.user.clone(), message }
        }
        &SqlState::INVALID_CATALOG_NAME => Error::NoDatabase(database.name.clone()),
        &SqlState::INSUFFICIENT_PRIVILEGE => Error::NotAllowed(message),
        &SqlState::READ_ONLY_SQL_TRANSACTION => Error::ReadOnly,
        &SqlState::DISK_FULL | &SqlState::OUT_OF_MEMORY | &SqlState::TOO_MANY_CONNECTIONS => Error::Full(message),
        &SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME => Error::NoSchema,
        code => Error::Refused { code: code.code().to_owned(), message },
    }
}

fn is_about_login(message: &str) -> bool {
    ["password", "auth", "no such user"].iter().any(|word| message.contains(word))
}
