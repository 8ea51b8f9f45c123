//! The devices that the instances have seen. Each operation is one statement.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{Postgres, length};
use crate::fleet::error::Error;
use crate::fleet::records::Answer;
use crate::fleet::seen::{SeenByInstance, SeenCursor, SeenRecord, SeenRecords};

impl SeenRecords for Postgres {
    fn put_seen<'a>(&'a self, instance: &'a str, records: &'a [SeenRecord]) -> Answer<'a, ()> {
        Box::pin(async move {
            let devices: Vec<&str> = records.iter().map(|record| record.device.as_str()).collect();
            let texts: Vec<&str> = records.iter().map(|record| record.json.as_str()).collect();
            let logins: Vec<bool> = records.iter().map(|record| record.has_logged_in).collect();
            let ages: Vec<f64> = records.iter().map(|record| record.age.as_secs_f64()).collect();
            let parameters: &[_] = &[
                (&instance as _, Type::TEXT),
                (&devices as _, Type::TEXT_ARRAY),
                (&texts as _, Type::TEXT_ARRAY),
                (&logins as _, Type::BOOL_ARRAY),
                (&ages as _, Type::FLOAT8_ARRAY),
            ];
            self.changes(PUT, parameters).await.map(drop)
        })
    }

    fn seen_behind<'a>(
        &'a self,
        cursor: &'a SeenCursor,
        most: u32,
    ) -> Answer<'a, Option<(Vec<SeenByInstance>, SeenCursor)>> {
        Box::pin(async move {
            let most = i64::from(most);
            let SeenCursor { changed, device, instance, .. } = cursor;
            let parameters: &[_] = &[
                (changed as _, Type::INT8),
                (device as _, Type::TEXT),
                (instance as _, Type::TEXT),
                (&most as _, Type::INT8),
            ];
            let rows = self.rows(READ, parameters).await?;
            let read = || -> Result<_, tokio_postgres::Error> {
                let records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
                let last = rows.last().map(cursor_of).transpose()?;
                Ok(last.map(|last| (records, last)))
            };
            read().map_err(|_| Error::Strange("a device that an instance has seen"))
        })
    }

    fn running(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async {
            let names = self.rows(RUNNING, &[]).await?.into_iter().map(|row| row.try_get(0));
            names.collect::<Result<_, tokio_postgres::Error>>().map_err(|_| Error::Strange("an instance"))
        })
    }

    fn forget_seen<'a>(&'a self, device: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.changes(FORGET, &[(&device, Type::TEXT)]).await.map(drop) })
    }

    fn remove_seen<'a>(&'a self, instance: &'a str, devices: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            let parameters: &[_] = &[(&instance as _, Type::TEXT), (&devices as _, Type::TEXT_ARRAY)];
            self.changes(REMOVE, parameters).await.map(drop)
        })
    }

    fn limit_seen(&self, oldest: Duration, most: u32) -> Answer<'_, ()> {
        Box::pin(async move {
            let (seconds, most) = (oldest.as_secs_f64(), i64::from(most));
            let parameters: &[_] = &[(&seconds as _, Type::FLOAT8), (&most as _, Type::INT8)];
            self.changes(LIMIT, parameters).await.map(drop)
        })
    }
}

fn record(row: &Row) -> Result<SeenByInstance, tokio_postgres::Error> {
    Ok(SeenByInstance {
        device: row.try_get(0)?,
        instance: row.try_get(1)?,
        json: row.try_get(2)?,
        age: length(row.try_get(3)?).unwrap_or_default(),
    })
}

fn cursor_of(row: &Row) -> Result<SeenCursor, tokio_postgres::Error> {
    let (device, instance) = (row.try_get(0)?, row.try_get(1)?);
    Ok(SeenCursor { device, instance, changed: row.try_get(4)?, read: row.try_get(5)? })
}

/// In the order of the keys, so that two instances of one name do not wait for each other's rows in a circle.
/// A record that is too long for the table's constraint is left out, so that the others are put.
const PUT: &str = "insert into packetboat.seen (device, instance, record, has_logged_in, last_seen, changed) \
    select device, $1, record::json, has_logged_in, clock_timestamp() - pg_catalog.make_interval(secs => age), \
    (extract(epoch from clock_timestamp()) * 1000000::numeric)::bigint \
    from unnest($2, $3, $4, $5) as row (device, record, has_logged_in, age) \
    where octet_length(record) <= 16384 and octet_length(device) <= 2048 order by device \
    on conflict (device, instance) do update set record = excluded.record, \
    has_logged_in = excluded.has_logged_in, last_seen = excluded.last_seen, changed = excluded.changed";

/// Rows that are longer than the table's constraint allows were written by no packetboat. PostgreSQL before 17 subtracts no
/// infinite times, which somebody else may write.
const READ: &str = "select device, instance, left(record::text, 16384), \
    case when record is null then extract(epoch from clock_timestamp())::float8 - changed::float8 / 1000000.0::float8 \
    else extract(epoch from clock_timestamp())::float8 - extract(epoch from last_seen)::float8 end, changed, \
    (extract(epoch from clock_timestamp()) * 1000000::numeric)::bigint from packetboat.seen \
    where (changed, device, instance) > ($1, $2, $3) \
    and octet_length(device) <= 2048 and octet_length(instance) <= 1024 order by changed, device, instance limit $4";

/// A registration that ends later than anybody writes it is of a time when the clock of the database was ahead.
const RUNNING: &str = "select left(name, 255) from packetboat.instance \
    where until between clock_timestamp() and clock_timestamp() + interval '5 minutes' \
    order by left(name, 255) limit 10000";

const FORGET: &str = "update packetboat.seen set record = null, has_logged_in = false, \
    changed = (extract(epoch from clock_timestamp()) * 1000000::numeric)::bigint \
    where device = $1 and record is not null";

/// The row stays for a while, so that other instances read that it has no record any more.
const REMOVE: &str = "update packetboat.seen set record = null, has_logged_in = false, \
    changed = (extract(epoch from clock_timestamp()) * 1000000::numeric)::bigint \
    where instance = $1 and device = any($2) and record is not null";

/// A record of tomorrow was written by somebody else, or while the clock of the database was wrong.
const LIMIT: &str = "delete from packetboat.seen \
    where last_seen < clock_timestamp() - pg_catalog.make_interval(secs => $1) \
    or last_seen > clock_timestamp() + interval '1 day' \
    or record is null and changed < \
    (extract(epoch from clock_timestamp() - interval '1 hour') * 1000000::numeric)::bigint \
    or (device, instance) in (select device, instance from packetboat.seen \
    order by has_logged_in desc, last_seen desc, device, instance offset $2)";
