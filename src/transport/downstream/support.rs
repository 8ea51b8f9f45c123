//! The end of support of the OpenSSL that is linked in, by its project's calendar.

/// Returns the last day of support, as `2030-04-08`; none for a line that the table does not have.
///
/// `version` is OpenSSL's own text, as `OpenSSL 3.5.7+deb13u2 9 Jun 2026`.
pub(super) fn until(version: &str) -> Option<&'static str> {
    let number = version.split(' ').nth(1)?;
    LINES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .find_map(|(line, day)| number.strip_prefix(line)?.starts_with('.').then_some(day))
}

/// One line of OpenSSL and its last day in a row.
const LINES: &str = include_str!("../../../config/release/openssl-lines.txt");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_known_by_two_numbers() {
        assert_eq!(until("OpenSSL 3.5.7+deb13u2 9 Jun 2026"), Some("2030-04-08"));
        assert_eq!(until("OpenSSL 3.6.3 9 Jun 2026"), Some("2026-11-26"));
        assert_eq!(until("OpenSSL 3.50.1 9 Jun 2036"), None);
        assert_eq!(until("OpenSSL"), None);
    }

    /// A build against a library that the table does not know would tell nobody of its end.
    #[test]
    fn the_line_that_is_linked_in_is_in_the_table() {
        let version = openssl::version::version();
        assert!(until(version).is_some(), "{version}");
    }
}
