//! Names of users and groups, and the groups of a user, as /etc/passwd and /etc/group have them (passwd(5), group(5)).

use std::fs;

/// The name of a user, or its number where it has no name that a command could repeat.
pub fn user_name(user: u32) -> String {
    name_in(&fs::read_to_string(USERS).unwrap_or_default(), user)
}

/// The name of a group, or its number where it has no name that a command could repeat.
pub fn group_name(group: u32) -> String {
    name_in(&fs::read_to_string(GROUPS).unwrap_or_default(), group)
}

/// The groups that list this user as a member.
pub fn groups_of(user: &str) -> Vec<u32> {
    memberships(&fs::read_to_string(GROUPS).unwrap_or_default(), user)
}

/// The number of a group, which is given by name or by number.
pub fn group_number(group: &str) -> Option<u32> {
    let number = || {
        let groups = fs::read_to_string(GROUPS).unwrap_or_default();
        groups.lines().map(fields).find(|entry| entry.first() == Some(&group))?.get(2)?.parse().ok()
    };
    group.parse().ok().or_else(number)
}

fn name_in(entries: &str, number: u32) -> String {
    let text = number.to_string();
    let is_meant = |entry: &Vec<&str>| entry.get(2) == Some(&text.as_str());
    let name = entries.lines().map(fields).find(is_meant).and_then(|entry| entry.first().copied());
    name.filter(|name| is_plain(name)).map_or(text, str::to_owned)
}

fn memberships(groups: &str, user: &str) -> Vec<u32> {
    let is_member = |entry: &Vec<&str>| entry.get(3).is_some_and(|members| members.split(',').any(|one| one == user));
    let members_of = groups.lines().map(fields).filter(is_member);
    members_of.filter_map(|entry| entry.get(2)?.parse().ok()).collect()
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

/// Returns whether a shell takes the name as it is.
fn is_plain(name: &str) -> bool {
    let is_taken = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-' | b'.');
    !name.is_empty() && !name.starts_with('-') && name.bytes().all(is_taken)
}

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_memberships_are_found() {
        let users = "root:x:0:0:root:/root:/bin/sh\nodd;name:x:7:7::/:\npacketboat:x:995:994::/:/usr/sbin/nologin\n";
        assert_eq!([0, 995, 7, 8].map(|user| name_in(users, user)), ["root", "packetboat", "7", "8"]);
        let groups = "root:x:0:\nssl-cert:x:101:alice,packetboat\nother:x:102:packetboats\nmail:x:8:packetboat\n";
        assert_eq!(memberships(groups, "packetboat"), [101, 8]);
        assert_eq!(group_number("17"), Some(17));
        assert_eq!(group_number("root"), Some(0));
        assert_eq!((user_name(0), group_name(0)), ("root".to_owned(), "root".to_owned()));
    }
}
