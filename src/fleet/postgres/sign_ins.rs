//! The sign-ins, and the lease of each renewal. Each operation is one statement.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::{Parameters, Postgres, length, length_up_to};
use crate::crypto::SEALED_EMPTY;
use crate::fleet::error::Error;
use crate::fleet::records::{
    Answer, Candidate, Lease, Origin, Renewal, SealedAccess, SignIn, SignInKey, SignInRecords, UnfinishedRenewal,
};

impl SignInRecords for Postgres {
    fn sign_in<'a>(&'a self, key: &'a SignInKey) -> Answer<'a, Option<SignIn>> {
        Box::pin(async move {
            let row = self.row(READ, &of(key)).await?;
            row.map(|row| sign_in(&row)).transpose().map_err(strange)
        })
    }

    fn sign_ins(&self) -> Answer<'_, Vec<SignInKey>> {
        Box::pin(async {
            let statement = "select identity, person, issuer from packetboat.sign_in \
                             where octet_length(identity) <= 1024 and octet_length(person) <= 1024 \
                             and octet_length(issuer) <= 1024 order by identity, person, issuer limit 10000";
            let rows = self.rows(statement, &[]).await?;
            rows.iter().map(key).collect::<Result<_, _>>().map_err(strange)
        })
    }

    fn signed_out(&self) -> Answer<'_, Vec<(SignInKey, i64)>> {
        Box::pin(async {
            let rows = self.rows(SIGNED_OUT, &[(&SEALED_EMPTY, Type::INT4)]).await?;
            rows.iter().map(|row| Ok((key(row)?, row.try_get(3)?))).collect::<Result<_, _>>().map_err(strange)
        })
    }

    fn unfinished_renewals(&self) -> Answer<'_, Vec<UnfinishedRenewal>> {
        Box::pin(async {
            let rows = self.rows(UNFINISHED, &[]).await?;
            let read = |row: &Row| Ok(UnfinishedRenewal { key: key(row)?, holder: row.try_get(3)? });
            rows.iter().map(read).collect::<Result<_, _>>().map_err(strange)
        })
    }

    fn begin<'a>(&'a self, key: &'a SignInKey, holder: &'a str, life: Duration) -> Answer<'a, Option<Lease>> {
        Box::pin(async move {
            let seconds = life.as_secs_f64();
            let row = self.row(BEGIN, &with(key, &[(&holder, Type::TEXT), (&seconds, Type::FLOAT8)])).await?;
            row.map(|row| lease(&row)).transpose().map_err(strange)
        })
    }

    fn commit<'a>(&'a self, key: &'a SignInKey, lease: &'a Lease, renewal: Renewal<'a>) -> Answer<'a, bool> {
        Box::pin(async move {
            let (seconds, access) = (renewal.access.left.as_secs_f64(), renewal.access.sealed.as_slice());
            let parameters: &[_] = &[
                (&lease.epoch as _, Type::INT8),
                (&lease.generation as _, Type::INT8),
                (&renewal.sealed as _, Type::BYTEA),
                (&access as _, Type::BYTEA),
                (&seconds as _, Type::FLOAT8),
            ];
            self.changes(COMMIT, &with(key, parameters)).await
        })
    }

    fn refuse<'a>(
        &'a self,
        key: &'a SignInKey,
        lease: &'a Lease,
        pause: Duration,
        trouble: &'a str,
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            let seconds = pause.as_secs_f64();
            let parameters: &[_] =
                &[(&lease.epoch as _, Type::INT8), (&seconds as _, Type::FLOAT8), (&trouble as _, Type::TEXT)];
            self.changes(REFUSE, &with(key, parameters)).await
        })
    }

    fn give_back<'a>(&'a self, key: &'a SignInKey, lease: &'a Lease) -> Answer<'a, bool> {
        Box::pin(async move {
            // A token that an earlier holder may have spent stays marked so.
            let spending = lease.is_perhaps_spent.then_some(lease.generation);
            let parameters: &[_] = &[(&lease.epoch as _, Type::INT8), (&spending as _, Type::INT8)];
            self.changes(GIVE_BACK, &with(key, parameters)).await
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a SignInKey,
        before: Option<i64>,
        generation: i64,
        sealed: &'a [u8],
    ) -> Answer<'a, bool> {
        Box::pin(async move {
            match before {
                None => {
                    let parameters: &[_] = &[(&generation as _, Type::INT8), (&sealed as _, Type::BYTEA)];
                    self.changes(INSERT, &with(key, parameters)).await
                }
                Some(before) => {
                    let parameters: &[_] =
                        &[(&before as _, Type::INT8), (&generation as _, Type::INT8), (&sealed as _, Type::BYTEA)];
                    self.changes(REPLACE, &with(key, parameters)).await
                }
            }
        })
    }

    fn add_candidate<'a>(&'a self, key: &'a SignInKey, from_generation: i64, sealed: &'a [u8]) -> Answer<'a, ()> {
        Box::pin(async move {
            let parameters: &[_] = &[(&from_generation as _, Type::INT8), (&sealed as _, Type::BYTEA)];
            self.changes(ADD_CANDIDATE, &with(key, parameters)).await.map(drop)
        })
    }

    fn candidates<'a>(&'a self, key: &'a SignInKey) -> Answer<'a, Vec<Candidate>> {
        Box::pin(async move {
            let read = |row: Row| {
                let age = length(row.try_get(3)?).unwrap_or_default();
                let (id, from_generation) = (row.try_get(0)?, row.try_get(1)?);
                Ok(Candidate { id, from_generation, sealed: row.try_get(2)?, age })
            };
            let rows = self.rows(CANDIDATES, &of(key)).await?.into_iter();
            rows.map(read).collect::<Result<_, _>>().map_err(strange)
        })
    }

    fn remove_candidate<'a>(&'a self, key: &'a SignInKey, id: i64) -> Answer<'a, ()> {
        Box::pin(async move {
            let statement = "delete from packetboat.candidate \
                             where identity = $1 and person = $2 and issuer = $3 and id = $4";
            self.changes(statement, &with(key, &[(&id, Type::INT8)])).await.map(drop)
        })
    }

    fn remove_candidates<'a>(&'a self, key: &'a SignInKey, up_to: i64) -> Answer<'a, ()> {
        Box::pin(async move {
            let statement = "delete from packetboat.candidate \
                             where identity = $1 and person = $2 and issuer = $3 and id <= $4";
            self.changes(statement, &with(key, &[(&up_to, Type::INT8)])).await.map(drop)
        })
    }
}

/// The key as the parameters 1 to 3.
fn of(key: &SignInKey) -> [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] {
    [(&key.identity, Type::TEXT), (&key.person, Type::TEXT), (&key.issuer, Type::TEXT)]
}

/// The key as the parameters 1 to 3, and further ones after them.
fn with<'a>(
    key: &'a SignInKey,
    parameters: Parameters<'a>,
) -> Vec<(&'a (dyn tokio_postgres::types::ToSql + Sync), Type)> {
    of(key).into_iter().chain(parameters.iter().map(|(value, kind)| (*value, kind.clone()))).collect()
}

/// The key in the columns 0 to 2.
fn key(row: &Row) -> Result<SignInKey, tokio_postgres::Error> {
    Ok(SignInKey { identity: row.try_get(0)?, person: row.try_get(1)?, issuer: row.try_get(2)? })
}

fn sign_in(row: &Row) -> Result<SignIn, tokio_postgres::Error> {
    let holder: Option<String> = row.try_get(6)?;
    Ok(SignIn {
        generation: row.try_get(0)?,
        sealed: row.try_get(1)?,
        access: access(row.try_get(2)?, row.try_get(3)?),
        epoch: row.try_get(4)?,
        spending: row.try_get(5)?,
        lease: holder.zip(length_up_to(LONGEST_LEASE, row.try_get(7)?)),
        pause: length_up_to(LONGEST_PAUSE, row.try_get(8)?),
        trouble: row.try_get(9)?,
        origin: Origin(row.try_get(10)?),
    })
}

fn lease(row: &Row) -> Result<Lease, tokio_postgres::Error> {
    let generation = row.try_get(1)?;
    let spending: Option<i64> = row.try_get(5)?;
    Ok(Lease {
        epoch: row.try_get(0)?,
        generation,
        sealed: row.try_get(2)?,
        access: access(row.try_get(3)?, row.try_get(4)?),
        is_perhaps_spent: spending == Some(generation),
    })
}

/// An access token that still lives.
fn access(sealed: Option<Vec<u8>>, left: f64) -> Option<SealedAccess> {
    sealed.zip(length(left)).map(|(sealed, left)| SealedAccess { sealed, left })
}

fn strange(_: tokio_postgres::Error) -> Error {
    Error::Strange("a sign-in")
}

/// The difference of two numbers, because PostgreSQL before 17 subtracts no infinite times. Whoever writes to the table
/// makes no instance read more than these lengths, which are those of the table's constraints: a value that is cut opens
/// no more.
const READ: &str = "select generation, substr(sealed, 1, 65536), substr(access_sealed, 1, 65536), \
    extract(epoch from access_until)::float8 - extract(epoch from clock_timestamp())::float8, \
    epoch, spending, holder::text, \
    extract(epoch from lease_until)::float8 - extract(epoch from clock_timestamp())::float8, \
    extract(epoch from not_before)::float8 - extract(epoch from clock_timestamp())::float8, left(trouble, 2000), \
    extract(epoch from pg_catalog.pg_postmaster_start_time())::text || ' ' \
    || 'packetboat.sign_in'::regclass::oid::text \
    from packetboat.sign_in where identity = $1 and person = $2 and issuer = $3 limit 1";

/// A lease or a pause that ends later than this was written while the clock of the database was ahead: it is over. The
/// same bounds are in [`BEGIN`].
const LONGEST_LEASE: Duration = Duration::from_secs(90);
const LONGEST_PAUSE: Duration = Duration::from_secs(2 * 60 * 60);

/// A person who has signed out has an empty record. Its length tells, without the key.
const SIGNED_OUT: &str = "select identity, person, issuer, generation from packetboat.sign_in s \
    where octet_length(s.sealed) <= $1 \
    and octet_length(identity) <= 1024 and octet_length(person) <= 1024 and octet_length(issuer) <= 1024 limit 10000";

/// The holder is in the row until the next lease, and its name in the table of instances for a day.
const UNFINISHED: &str = "select identity, person, issuer, coalesce(left(i.name, 255), s.holder::text) \
    from packetboat.sign_in s left join packetboat.instance i on i.id = s.holder \
    where s.spending = s.generation \
    and (s.lease_until < clock_timestamp() or s.lease_until > clock_timestamp() + interval '90 seconds') \
    and octet_length(identity) <= 1024 and octet_length(person) <= 1024 and octet_length(issuer) <= 1024 \
    order by 1, 2, 3 limit 10000";

/// A caller that waits for the row's lock looks at its newest state again, and finds the lease of the one before. A number
/// that has no next one was written by no packetboat, and counting begins anew.
const BEGIN: &str = "with free as \
    (select identity, person, issuer, spending from packetboat.sign_in \
    where identity = $1 and person = $2 and issuer = $3 \
    and (lease_until < clock_timestamp() or lease_until > clock_timestamp() + interval '90 seconds') \
    and (not_before <= clock_timestamp() or not_before > clock_timestamp() + interval '2 hours') limit 1 for update), \
    begun as (update packetboat.sign_in s set holder = $4::text::uuid, \
    epoch = case when s.epoch < 9223372036854775807 then s.epoch + 1 else 1 end, spending = s.generation, \
    lease_until = clock_timestamp() + pg_catalog.make_interval(secs => $5) \
    from free where (s.identity, s.person, s.issuer) = (free.identity, free.person, free.issuer) \
    returning s.epoch, s.generation, substr(s.sealed, 1, 65536), substr(s.access_sealed, 1, 65536), \
    extract(epoch from s.access_until)::float8 - extract(epoch from clock_timestamp())::float8, free.spending) \
    select * from begun limit 1";

const COMMIT: &str = "update packetboat.sign_in set sealed = $6, generation = generation + 1, access_sealed = $7, \
    access_until = clock_timestamp() + pg_catalog.make_interval(secs => $8), spending = null, holder = null, \
    lease_until = '-infinity', not_before = '-infinity', trouble = null \
    where identity = $1 and person = $2 and issuer = $3 and epoch = $4 and generation = $5";

const REFUSE: &str = "update packetboat.sign_in \
    set not_before = clock_timestamp() + pg_catalog.make_interval(secs => $5), \
    trouble = left($6, 2000), spending = null, holder = null, lease_until = '-infinity' \
    where identity = $1 and person = $2 and issuer = $3 and epoch = $4";

const GIVE_BACK: &str = "update packetboat.sign_in set spending = $5, holder = null, lease_until = '-infinity' \
    where identity = $1 and person = $2 and issuer = $3 and epoch = $4";

const INSERT: &str = "insert into packetboat.sign_in (identity, person, issuer, generation, sealed) \
    values ($1, $2, $3, $4, $5) on conflict do nothing";

const REPLACE: &str = "update packetboat.sign_in set sealed = $6, generation = $5, \
    epoch = case when epoch < 9223372036854775807 then epoch + 1 else 1 end, \
    access_sealed = null, access_until = '-infinity', spending = null, holder = null, lease_until = '-infinity', \
    not_before = '-infinity', trouble = null \
    where identity = $1 and person = $2 and issuer = $3 and generation = $4";

const ADD_CANDIDATE: &str = "insert into packetboat.candidate (identity, person, issuer, from_generation, sealed) \
    values ($1, $2, $3, $4, $5)";

const CANDIDATES: &str = "select id, from_generation, substr(sealed, 1, 65536), \
    extract(epoch from clock_timestamp())::float8 - extract(epoch from since)::float8 from packetboat.candidate \
    where identity = $1 and person = $2 and issuer = $3 order by id desc limit 16";
