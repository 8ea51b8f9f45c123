//! The registration of instances, and facts about the database.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::{Postgres, length, length_up_to};
use crate::fleet::error::Error;
use crate::fleet::records::{
    Answer, DatabaseFacts, Instance, InstanceRecords, KnownInstance, Origin, Registered, SplitBrain,
};

impl InstanceRecords for Postgres {
    fn database(&self) -> Answer<'_, DatabaseFacts> {
        Box::pin(async {
            let strange = |_| Error::Strange("facts about the server");
            let row = self.row(FACTS, &[]).await?.ok_or(Error::Strange("facts about the server"))?;
            let has_schema: bool = row.try_get(3).map_err(strange)?;
            let schema = match has_schema {
                true => self.row("select version, serves_from from packetboat.schema limit 1", &[]).await?,
                false => None,
            };
            let versions = |row: tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
            Ok(DatabaseFacts {
                server_version: row.try_get(0).map_err(strange)?,
                is_standby: row.try_get(1).map_err(strange)?,
                time: row.try_get(2).map_err(strange)?,
                schema: schema.map(versions).transpose().map_err(strange)?,
                origin: row.try_get::<_, Option<String>>(4).map_err(strange)?.map(Origin),
            })
        })
    }

    fn register<'a>(&'a self, instance: &'a Instance, life: Duration) -> Answer<'a, Registered> {
        Box::pin(async move {
            let (seconds, Instance { id, name, version }) = (life.as_secs_f64(), instance);
            let parameters: &[_] = &[
                (id as _, Type::TEXT),
                (name as _, Type::TEXT),
                (version as _, Type::TEXT),
                (&seconds as _, Type::FLOAT8),
            ];
            let strange = Error::Strange("the registration of an instance");
            let row = self.row(REGISTER, parameters).await?;
            row.and_then(|row| registered(&row).ok()).ok_or(strange)
        })
    }

    fn split_brain(&self) -> Answer<'_, Option<SplitBrain>> {
        Box::pin(self.0.access.split_brain())
    }

    fn unregister<'a>(&'a self, id: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let statement = "delete from packetboat.instance where id = $1::text::uuid";
            self.changes(statement, &[(&id, Type::TEXT)]).await.map(drop)
        })
    }

    fn instances(&self) -> Answer<'_, Vec<KnownInstance>> {
        Box::pin(async {
            let read = |row: tokio_postgres::Row| {
                let instance = Instance { id: row.try_get(0)?, name: row.try_get(1)?, version: row.try_get(2)? };
                let age = length(row.try_get(3)?).unwrap_or_default();
                Ok(KnownInstance { instance, age, left: length_up_to(LONGEST_REGISTRATION, row.try_get(4)?) })
            };
            let rows = self.rows(INSTANCES, &[]).await?.into_iter();
            rows.map(read).collect::<Result<_, tokio_postgres::Error>>().map_err(|_| Error::Strange("an instance"))
        })
    }
}

fn registered(row: &tokio_postgres::Row) -> Result<Registered, tokio_postgres::Error> {
    let schema: (Option<i32>, Option<i32>) = (row.try_get(3)?, row.try_get(4)?);
    Ok(Registered {
        origin: Origin(row.try_get(0)?),
        until: row.try_get(1)?,
        until_before: row.try_get(2)?,
        schema: schema.0.zip(schema.1),
    })
}

/// A registration that ends later than this was written while the clock of the database was ahead: it is over. The same
/// bound is in the statements that count and list the instances.
const LONGEST_REGISTRATION: Duration = Duration::from_secs(5 * 60);

const FACTS: &str = "select left(current_setting('server_version'), 200), pg_is_in_recovery(), \
    extract(epoch from clock_timestamp())::float8, to_regclass('packetboat.schema') is not null, \
    extract(epoch from pg_catalog.pg_postmaster_start_time())::text || ' ' \
    || to_regclass('packetboat.sign_in')::oid::text";

/// A registration reads no row but its own, and that of the versions, because all instances register all the time. A
/// statement that was held up, and comes behind a later one, does not shorten what that one has confirmed.
const REGISTER: &str = "with before as (select until from packetboat.instance where id = $1::text::uuid), \
    tables as (select version, serves_from from packetboat.schema limit 1) \
    insert into packetboat.instance as own (id, name, version, until) \
    values ($1::text::uuid, $2, $3, clock_timestamp() + pg_catalog.make_interval(secs => $4)) \
    on conflict (id) do update set name = excluded.name, version = excluded.version, until = case \
    when own.until between excluded.until and excluded.until + interval '1 minute' then own.until \
    else excluded.until end \
    returning extract(epoch from pg_catalog.pg_postmaster_start_time())::text || ' ' \
    || 'packetboat.sign_in'::regclass::oid::text, extract(epoch from until)::float8, \
    (select extract(epoch from before.until)::float8 from before), \
    (select tables.version from tables), (select tables.serves_from from tables)";

const INSTANCES: &str = "select id::text, left(name, 255), left(version, 255), \
    extract(epoch from clock_timestamp())::float8 - extract(epoch from since)::float8, \
    extract(epoch from until)::float8 - extract(epoch from clock_timestamp())::float8 \
    from packetboat.instance order by left(name, 255), since, id limit 10000";
