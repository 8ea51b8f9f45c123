-- Version 1 of the tables. Columns named *sealed* are encrypted with store_key before they come here.

-- Each start of packetboat, until its registration ends.
create table packetboat.instance (
    id uuid primary key,
    name text not null,
    version text not null,
    since timestamptz not null default clock_timestamp(),
    until timestamptz not null
);

-- The sign-ins of persons, each with the lease of its renewal.
create table packetboat.sign_in (
    identity text not null,
    person text not null,
    issuer text not null,
    generation bigint not null,
    sealed bytea not null,
    access_sealed bytea,
    access_until timestamptz not null default '-infinity',
    epoch bigint not null default 0,
    holder uuid,
    lease_until timestamptz not null default '-infinity',
    spending bigint,
    not_before timestamptz not null default '-infinity',
    trouble text,
    primary key (identity, person, issuer)
);

-- Answers of token endpoints to holders that were fenced meanwhile.
create table packetboat.candidate (
    id bigint generated always as identity primary key,
    identity text not null,
    person text not null,
    issuer text not null,
    from_generation bigint not null,
    sealed bytea not null,
    since timestamptz not null default clock_timestamp()
);
create index candidate_of_sign_in on packetboat.candidate (identity, person, issuer);

-- The mailboxes: until when a mail server throttles each, and until when it has sent enough. Kind is read or send.
create table packetboat.mailbox (
    upstream text not null,
    mailbox text not null,
    kind text not null,
    quiet_until timestamptz not null default '-infinity',
    paced_until timestamptz not null default '-infinity',
    primary key (upstream, mailbox, kind)
);

-- The sessions of a mailbox that instances have borrowed. A lost table costs a minute, so that it is not logged.
create unlogged table packetboat.mailbox_session (
    upstream text not null,
    mailbox text not null,
    kind text not null,
    number smallint not null,
    epoch bigint not null default 0,
    instance uuid,
    until timestamptz not null default '-infinity',
    primary key (upstream, mailbox, kind, number)
);
create index mailbox_session_of_instance on packetboat.mailbox_session (instance);

-- The instances that have got no session of a mailbox, and want one.
create unlogged table packetboat.mailbox_want (
    upstream text not null,
    mailbox text not null,
    kind text not null,
    instance uuid not null,
    holds smallint not null,
    count smallint not null,
    since timestamptz not null default clock_timestamp(),
    until timestamptz not null,
    primary key (upstream, mailbox, kind, instance)
);

-- The devices that each instance has seen. A record is no jsonb, which would take no device that sends the octet 0.
create table packetboat.seen (
    device text not null,
    instance text not null,
    -- None where the device is forgotten. The row stays for an hour, so that all instances read so.
    record json,
    has_logged_in boolean not null,
    last_seen timestamptz not null,
    -- The time of the last change, in microseconds since 1970: what instances read on from.
    changed bigint not null,
    primary key (device, instance)
);
create index seen_changed on packetboat.seen (changed, device, instance);
create index seen_last on packetboat.seen (last_seen);

-- Certificates and keys that all instances have in common.
create table packetboat.kept (
    name text primary key,
    sealed bytea not null,
    generation bigint not null
);
