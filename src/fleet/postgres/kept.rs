//! Certificates and keys that all instances have in common. Each operation is one statement.

use tokio_postgres::types::Type;

use super::Postgres;
use crate::fleet::error::Error;
use crate::fleet::kept::{Kept, KeptRecords};
use crate::fleet::records::Answer;

impl KeptRecords for Postgres {
    fn kept<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Kept>> {
        Box::pin(async move {
            let statement = "select substr(sealed, 1, 262144), generation from packetboat.kept where name = $1 limit 1";
            let row = self.row(statement, &[(&name, Type::TEXT)]).await?;
            let read = |row: tokio_postgres::Row| Ok(Kept { sealed: row.try_get(0)?, generation: row.try_get(1)? });
            row.map(read).transpose().map_err(|_: tokio_postgres::Error| Error::Strange("a kept certificate"))
        })
    }

    fn keep_first<'a>(&'a self, name: &'a str, value: &'a Kept) -> Answer<'a, bool> {
        Box::pin(async move {
            let statement = "insert into packetboat.kept (name, sealed, generation) values ($1, $2, $3) \
                             on conflict do nothing";
            let parameters: &[_] =
                &[(&name as _, Type::TEXT), (&value.sealed as _, Type::BYTEA), (&value.generation as _, Type::INT8)];
            self.changes(statement, parameters).await
        })
    }

    fn replace_kept<'a>(&'a self, name: &'a str, before: i64, value: &'a Kept) -> Answer<'a, bool> {
        Box::pin(async move {
            let statement = "update packetboat.kept set sealed = $3, generation = $4 \
                             where name = $1 and generation = $2";
            let parameters: &[_] = &[
                (&name as _, Type::TEXT),
                (&before as _, Type::INT8),
                (&value.sealed as _, Type::BYTEA),
                (&value.generation as _, Type::INT8),
            ];
            self.changes(statement, parameters).await
        })
    }
}
