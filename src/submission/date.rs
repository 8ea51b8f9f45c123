//! The date and time of a Date field (RFC 5322 §3.3), in UTC.

/// Writes the time that is so many seconds behind the beginning of 1970.
pub fn format(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    // 1970-01-01 was a Thursday.
    let weekday = name("ThuFriSatSunMonTueWed", days % 7);
    let month = name("JanFebMarAprMayJunJulAugSepOctNovDec", month);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {day} {month} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

fn name(names: &'static str, number: u64) -> &'static str {
    let at = usize::try_from(number * 3).unwrap_or_default();
    names.get(at..at + 3).unwrap_or_default()
}

/// Returns year, month from 0 on, and day of the month. The year is counted from March on, so that a leap day ends it.
fn civil(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    (era * 400 + year + u64::from(is_next_year), if is_next_year { month - 10 } else { month + 2 }, day)
}

#[cfg(test)]
mod tests {
    use super::format;

    /// The dates are those of GNU date.
    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "Thu, 1 Jan 1970 00:00:00 +0000"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 +0000"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 +0000"),
            (951_868_800, "Wed, 1 Mar 2000 00:00:00 +0000"),
            (1_795_826_100, "Sat, 28 Nov 2026 00:35:00 +0000"),
            (1_830_297_599, "Fri, 31 Dec 2027 23:59:59 +0000"),
            (4_107_542_400, "Mon, 1 Mar 2100 00:00:00 +0000"),
        ] {
            assert_eq!(format(seconds), expected);
        }
    }
}
