//! The sessions of mailboxes. Each operation is one statement that waits for no lock of another instance's session.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::{Postgres, length, length_up_to};
use crate::fleet::error::Error;
use crate::fleet::records::{
    Answer, Borrowed, HeldSession, MailboxKey, MailboxNews, MailboxUse, SessionKind, SessionRecords, SessionRequest,
    Wanted,
};

/// Held sessions as columns, for `unnest`.
#[derive(Default)]
struct Columns<'a> {
    upstreams: Vec<&'a str>,
    mailboxes: Vec<&'a str>,
    kinds: Vec<&'static str>,
    numbers: Vec<i16>,
    epochs: Vec<i64>,
}

impl SessionRecords for Postgres {
    fn borrow_sessions<'a>(&'a self, key: &'a MailboxKey, request: SessionRequest<'a>) -> Answer<'a, Borrowed> {
        Box::pin(async move {
            let (borrowed, rows) = self.borrow_free(key, request).await?;
            if rows >= i64::from(request.most) {
                return Ok(borrowed);
            }
            self.changes(ADD_ROWS, &with(key, &[(&request.most, Type::INT2)])).await?;
            if borrowed.sessions.is_empty() { Ok(self.borrow_free(key, request).await?.0) } else { Ok(borrowed) }
        })
    }

    fn renew_sessions<'a>(
        &'a self,
        instance: &'a str,
        held: &'a [(MailboxKey, HeldSession)],
        life: Duration,
    ) -> Answer<'a, Vec<(MailboxKey, HeldSession)>> {
        Box::pin(async move {
            let (columns, seconds) = (Columns::of(held), life.as_secs_f64());
            let parameters = columns.with(&[(&instance, Type::TEXT), (&seconds, Type::FLOAT8)]);
            let rows = self.rows(RENEW, &parameters).await?.into_iter();
            rows.map(|row| {
                let session =
                    HeldSession { number: row.try_get(3).map_err(strange)?, epoch: row.try_get(4).map_err(strange)? };
                Ok((key(&row)?, session))
            })
            .collect()
        })
    }

    fn return_sessions<'a>(&'a self, instance: &'a str, held: &'a [(MailboxKey, HeldSession)]) -> Answer<'a, ()> {
        Box::pin(async move {
            let columns = Columns::of(held);
            self.changes(RETURN, &columns.with(&[(&instance, Type::TEXT)])).await.map(drop)
        })
    }

    fn return_all_sessions<'a>(&'a self, instance: &'a str) -> Answer<'a, ()> {
        Box::pin(async move { self.changes(RETURN_ALL, &[(&instance, Type::TEXT)]).await.map(drop) })
    }

    fn session_news<'a>(&'a self, instance: &'a str) -> Answer<'a, Vec<MailboxNews>> {
        Box::pin(async move {
            let rows = self.rows(NEWS, &[(&instance, Type::TEXT)]).await?;
            let read = |row: Row| {
                let holds: Option<i16> = row.try_get(3).map_err(strange)?;
                let count: Option<i64> = row.try_get(4).map_err(strange)?;
                let count = i16::try_from(count.unwrap_or_default()).unwrap_or(i16::MAX);
                let quiet: Option<f64> = row.try_get(5).map_err(strange)?;
                let wanted = holds.map(|holds| Wanted { count, holds });
                Ok(MailboxNews { key: key(&row)?, wanted, quiet: quiet.and_then(throttled) })
            };
            rows.into_iter().map(read).collect()
        })
    }

    fn throttle<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let seconds = time.as_secs_f64();
            self.changes(THROTTLE, &with(key, &[(&seconds, Type::FLOAT8)])).await.map(drop)
        })
    }

    fn draw_pace<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, Duration> {
        Box::pin(async move {
            let seconds = time.as_secs_f64();
            let row = self.row(DRAW, &with(key, &[(&seconds, Type::FLOAT8)])).await?;
            let until: f64 = row.ok_or(STRANGE)?.try_get(0).map_err(strange)?;
            Ok(length(until - seconds).unwrap_or_default())
        })
    }

    fn return_pace<'a>(&'a self, key: &'a MailboxKey, time: Duration) -> Answer<'a, ()> {
        Box::pin(async move {
            let seconds = time.as_secs_f64();
            self.changes(RETURN_PACE, &with(key, &[(&seconds, Type::FLOAT8)])).await.map(drop)
        })
    }

    fn count_instances(&self) -> Answer<'_, usize> {
        Box::pin(async {
            let count: i64 = self.row(COUNT, &[]).await?.ok_or(STRANGE)?.try_get(0).map_err(strange)?;
            usize::try_from(count).map_err(|_| STRANGE)
        })
    }

    fn sessions(&self) -> Answer<'_, Vec<MailboxUse>> {
        Box::pin(async {
            let mut mailboxes: Vec<MailboxUse> = Vec::new();
            for row in self.rows(SESSIONS, &[]).await? {
                let key = key(&row)?;
                let holder: Option<String> = row.try_get(3).map_err(strange)?;
                let count: i64 = row.try_get(4).map_err(strange)?;
                let quiet: Option<f64> = row.try_get(5).map_err(strange)?;
                if mailboxes.last().is_none_or(|last| last.key != key) {
                    mailboxes.push(MailboxUse { key, holders: Vec::new(), quiet: quiet.and_then(throttled) });
                }
                if let Some((last, holder)) = mailboxes.last_mut().zip(holder) {
                    last.holders.push((holder, count));
                }
            }
            Ok(mailboxes)
        })
    }
}

impl Postgres {
    /// Borrows what is free. Returns also the number of rows that the mailbox has.
    async fn borrow_free(&self, key: &MailboxKey, request: SessionRequest<'_>) -> Result<(Borrowed, i64), Error> {
        let SessionRequest { instance, most, count, holds, life } = request;
        let seconds = life.as_secs_f64();
        let parameters: &[_] = &[
            (&instance as _, Type::TEXT),
            (&most as _, Type::INT2),
            (&count as _, Type::INT2),
            (&holds as _, Type::INT2),
            (&seconds as _, Type::FLOAT8),
        ];
        let answer = self.rows(BORROW, &with(key, parameters)).await?;
        let (mut borrowed, mut rows) = (Borrowed::default(), 0);
        for row in answer {
            rows = row.try_get(2).map_err(strange)?;
            let quiet: Option<f64> = row.try_get(3).map_err(strange)?;
            borrowed.quiet = quiet.and_then(throttled);
            let number: Option<i16> = row.try_get(0).map_err(strange)?;
            let epoch: Option<i64> = row.try_get(1).map_err(strange)?;
            let session = number.zip(epoch).map(|(number, epoch)| HeldSession { number, epoch });
            borrowed.sessions.extend(session);
        }
        Ok((borrowed, rows))
    }
}

impl<'a> Columns<'a> {
    fn of(held: &'a [(MailboxKey, HeldSession)]) -> Self {
        let mut columns = Self::default();
        for (MailboxKey { upstream, mailbox, kind }, session) in held {
            columns.upstreams.push(upstream);
            columns.mailboxes.push(mailbox);
            columns.kinds.push(kind.label());
            columns.numbers.push(session.number);
            columns.epochs.push(session.epoch);
        }
        columns
    }

    /// The columns as the parameters 1 to 5, and further ones after them.
    fn with<'b>(&'b self, others: &[(&'b (dyn ToSql + Sync), Type)]) -> Vec<(&'b (dyn ToSql + Sync), Type)> {
        let columns: [(&(dyn ToSql + Sync), Type); 5] = [
            (&self.upstreams, Type::TEXT_ARRAY),
            (&self.mailboxes, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.numbers, Type::INT2_ARRAY),
            (&self.epochs, Type::INT8_ARRAY),
        ];
        columns.into_iter().chain(others.iter().map(|(value, kind)| (*value, kind.clone()))).collect()
    }
}

/// The key as the parameters 1 to 3, and further ones after them.
fn with<'a>(key: &'a MailboxKey, others: &[(&'a (dyn ToSql + Sync), Type)]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let kind: &'static &'static str = match key.kind {
        SessionKind::Reading => &READ,
        SessionKind::Sending => &SEND,
    };
    let key: [(&(dyn ToSql + Sync), Type); 3] =
        [(&key.upstream, Type::TEXT), (&key.mailbox, Type::TEXT), (kind, Type::TEXT)];
    key.into_iter().chain(others.iter().map(|(value, kind)| (*value, kind.clone()))).collect()
}

/// The key in the columns 0 to 2.
fn key(row: &Row) -> Result<MailboxKey, Error> {
    let kind: &str = row.try_get(2).map_err(strange)?;
    let (upstream, mailbox) = (row.try_get(0).map_err(strange)?, row.try_get(1).map_err(strange)?);
    Ok(MailboxKey { upstream, mailbox, kind: SessionKind::of(kind).ok_or(STRANGE)? })
}

/// The time for which a mailbox is throttled. Each instance writes a quarter of an hour at most.
fn throttled(seconds: f64) -> Option<Duration> {
    length_up_to(LONGEST_QUIET, seconds)
}

fn strange(_: tokio_postgres::Error) -> Error {
    STRANGE
}

const STRANGE: Error = Error::Strange("the sessions of a mailbox");
const READ: &str = SessionKind::Reading.label();
const SEND: &str = SessionKind::Sending.label();

/// Times that end later than anybody writes them are of a time when the clock of the database was ahead, and are over:
/// so it is here, and in each statement below.
const LONGEST_QUIET: Duration = Duration::from_secs(30 * 60);

/// Instances that hold fewer come first, and then those that have waited for longer.
///
/// A row that another statement has locked is passed over; one that was borrowed meanwhile is read again before it is
/// locked, and does not fit any more (PostgreSQL's documentation, section "Read Committed Isolation Level").
const BORROW: &str = "with free as \
    (select number from packetboat.mailbox_session where upstream = $1 and mailbox = $2 and kind = $3 \
    and number < $5 \
    and (until < clock_timestamp() or until > clock_timestamp() + pg_catalog.make_interval(secs => $8 + $8)) \
    and not exists \
    (select from packetboat.mailbox_want w where w.upstream = $1 and w.mailbox = $2 and w.kind = $3 \
    and w.instance <> $4::text::uuid \
    and w.until between clock_timestamp() and clock_timestamp() + interval '10 seconds' \
    and (w.holds, w.since) < ($7, coalesce((select own.since from packetboat.mailbox_want own \
    where own.upstream = $1 and own.mailbox = $2 and own.kind = $3 and own.instance = $4::text::uuid \
    and own.until > clock_timestamp()), clock_timestamp()))) \
    order by number limit $6 for update skip locked), \
    taken as (update packetboat.mailbox_session s set instance = $4::text::uuid, \
    epoch = case when s.epoch < 9223372036854775807 then s.epoch + 1 else 1 end, \
    until = clock_timestamp() + pg_catalog.make_interval(secs => $8) from free \
    where s.upstream = $1 and s.mailbox = $2 and s.kind = $3 and s.number = free.number \
    returning s.number, s.epoch), \
    wanted as (insert into packetboat.mailbox_want as w (upstream, mailbox, kind, instance, holds, count, until) \
    select $1, $2, $3, $4::text::uuid, $7, $6, clock_timestamp() + interval '1 second' \
    where not exists (select from taken) on conflict (upstream, mailbox, kind, instance) \
    do update set holds = excluded.holds, count = excluded.count, until = excluded.until, \
    since = case when w.until > clock_timestamp() then w.since else excluded.since end), \
    satisfied as (delete from packetboat.mailbox_want where upstream = $1 and mailbox = $2 and kind = $3 \
    and instance = $4::text::uuid and exists (select from taken)) \
    select taken.number, taken.epoch, \
    (select count(*) from packetboat.mailbox_session \
    where upstream = $1 and mailbox = $2 and kind = $3 and number < $5), \
    (select extract(epoch from quiet_until)::float8 - extract(epoch from clock_timestamp())::float8 \
    from packetboat.mailbox where upstream = $1 and mailbox = $2 and kind = $3) \
    from (select 1) one left join taken on true limit 10000";

const ADD_ROWS: &str = "insert into packetboat.mailbox_session (upstream, mailbox, kind, number) \
    select $1, $2, $3, number from generate_series(0, $4 - 1) number on conflict do nothing";

const RENEW: &str = "with renewed as (update packetboat.mailbox_session s \
    set until = clock_timestamp() + pg_catalog.make_interval(secs => $7) \
    from unnest($1, $2, $3, $4, $5) held (upstream, mailbox, kind, number, epoch) \
    where s.upstream = held.upstream and s.mailbox = held.mailbox and s.kind = held.kind \
    and s.number = held.number and s.epoch = held.epoch and s.instance = $6::text::uuid \
    returning s.upstream, s.mailbox, s.kind, s.number, s.epoch) select * from renewed limit 100000";

const RETURN: &str = "update packetboat.mailbox_session s set until = '-infinity', instance = null \
    from unnest($1, $2, $3, $4, $5) held (upstream, mailbox, kind, number, epoch) \
    where s.upstream = held.upstream and s.mailbox = held.mailbox and s.kind = held.kind \
    and s.number = held.number and s.epoch = held.epoch and s.instance = $6::text::uuid";

const RETURN_ALL: &str = "update packetboat.mailbox_session set until = '-infinity', instance = null \
    where instance = $1::text::uuid";

const NEWS: &str = "select mine.upstream, mine.mailbox, mine.kind, wanted.holds, wanted.count, \
    extract(epoch from m.quiet_until)::float8 - extract(epoch from clock_timestamp())::float8 \
    from (select distinct upstream, mailbox, kind from packetboat.mailbox_session \
    where instance = $1::text::uuid and until > clock_timestamp()) mine \
    left join lateral (select min(holds) holds, sum(count) count from packetboat.mailbox_want w \
    where w.upstream = mine.upstream and w.mailbox = mine.mailbox and w.kind = mine.kind \
    and w.instance <> $1::text::uuid \
    and w.until between clock_timestamp() and clock_timestamp() + interval '10 seconds') wanted on true \
    left join packetboat.mailbox m \
    on m.upstream = mine.upstream and m.mailbox = mine.mailbox and m.kind = mine.kind \
    where (wanted.holds is not null or m.quiet_until > clock_timestamp()) \
    and octet_length(mine.upstream) <= 1024 and octet_length(mine.mailbox) <= 1024 and octet_length(mine.kind) <= 16 \
    limit 10000";

const THROTTLE: &str = "insert into packetboat.mailbox (upstream, mailbox, kind, quiet_until) \
    values ($1, $2, $3, clock_timestamp() + pg_catalog.make_interval(secs => $4)) \
    on conflict (upstream, mailbox, kind) \
    do update set quiet_until = greatest(excluded.quiet_until, case \
    when packetboat.mailbox.quiet_until < clock_timestamp() + interval '30 minutes' \
    then packetboat.mailbox.quiet_until end)";

const DRAW: &str = "insert into packetboat.mailbox (upstream, mailbox, kind, paced_until) \
    values ($1, $2, $3, clock_timestamp() + pg_catalog.make_interval(secs => $4)) \
    on conflict (upstream, mailbox, kind) do update set paced_until = \
    greatest(clock_timestamp(), case when packetboat.mailbox.paced_until < clock_timestamp() + interval '1 hour' \
    then packetboat.mailbox.paced_until end) + pg_catalog.make_interval(secs => $4) \
    returning extract(epoch from paced_until)::float8 - extract(epoch from clock_timestamp())::float8";

const RETURN_PACE: &str = "update packetboat.mailbox \
    set paced_until = paced_until - pg_catalog.make_interval(secs => $4) \
    where upstream = $1 and mailbox = $2 and kind = $3";

const COUNT: &str = "with forgotten as \
    (delete from packetboat.mailbox_want where until < clock_timestamp() - interval '1 minute'), \
    ended as (delete from packetboat.instance where until < clock_timestamp() - interval '1 day') \
    select count(*) from packetboat.instance \
    where until between clock_timestamp() and clock_timestamp() + interval '5 minutes'";

const SESSIONS: &str = "select m.upstream, m.mailbox, m.kind, left(s.holder, 255), coalesce(s.count, 0), \
    extract(epoch from q.quiet_until)::float8 - extract(epoch from clock_timestamp())::float8 \
    from (select upstream, mailbox, kind from packetboat.mailbox_session where until > clock_timestamp() \
    union select upstream, mailbox, kind from packetboat.mailbox where quiet_until > clock_timestamp()) m \
    left join (select upstream, mailbox, kind, coalesce(i.name, instance::text) holder, count(*) count \
    from packetboat.mailbox_session left join packetboat.instance i on i.id = instance \
    where mailbox_session.until > clock_timestamp() group by 1, 2, 3, 4) s \
    on s.upstream = m.upstream and s.mailbox = m.mailbox and s.kind = m.kind \
    left join packetboat.mailbox q on q.upstream = m.upstream and q.mailbox = m.mailbox and q.kind = m.kind \
    where octet_length(m.upstream) <= 1024 and octet_length(m.mailbox) <= 1024 and octet_length(m.kind) <= 16 \
    order by 1, 2, 3, 4 limit 10000";
