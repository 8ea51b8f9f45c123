//! The disk of the database is full: instances go on without it, say so, and need nothing once there is room.

use support::exchange::imap_login;
use support::mounted::Disk;
use support::postgresql::Postgresql;
use support::process::Process;

use crate::several::{Several, until_served, while_devices_are_served};

/// First the tables have no room to grow, and then the log has none: PostgreSQL ends by itself.
#[test]
fn a_full_disk_of_the_database() {
    let disk = Disk::new(192 * 1024);
    // The server's user goes through it.
    std::fs::set_permissions(disk.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = disk.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut several = Several::lenient_at(Postgresql::start_on(&data), "localhost", 10);
    several.sign_in();
    let [one, two] = ["one", "two"].map(|name| several.instance(name));
    [&one, &two].into_iter().for_each(until_served);
    while_devices_are_served(&[&one, &two], || {
        // The log begins a file, so that the tables come to the end of the disk first; and a reader keeps old versions
        // of rows, so that each change needs more room.
        several.sql("select pg_switch_wal()");
        several.sql("select pg_logical_emit_message(true, 'filler', 'the first octets of the new file')");
        let reader = reader(&several);
        disk.fill();
        for instance in [&one, &two] {
            instance.logs(1, "the database has no room");
        }
        drop(reader);
        while several.try_sql("select pg_logical_emit_message(false, 'filler', repeat('x', 1000000))").is_ok() {}
        crate::until_now("PostgreSQL ends", || several.server.has_ended());
        for instance in [&one, &two] {
            instance.logs(1, "the database is not reached");
            instance.logs(1, "renewed without the fleet's database");
            let reachable = || instance.metric("packetboat_fleet_database_reachable", "");
            crate::until_now("the metric says so", || reachable() == 0);
        }
        disk.make_room();
        several.server.start_again();
        for instance in [&one, &two] {
            instance.log.wait_for("return of the database", |line| line.contains("the fleet's database is back"));
            instance.log.wait_for("return of the database", |line| line.contains("has the sign-in again"));
        }
        let before = several.generation();
        crate::until_now("a renewal by lease", || several.generation() > before);
    });
    assert_eq!(several.row("coalesce(trouble, 'none')"), "none");
    assert!(imap_login(&one).starts_with("OK") && imap_login(&two).starts_with("OK"));
}

/// A transaction that sees the tables as they are now, until it is dropped.
fn reader(several: &Several) -> Process {
    several.transaction("begin isolation level repeatable read; select 'begun' from packetboat.sign_in")
}
