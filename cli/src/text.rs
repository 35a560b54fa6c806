//! Text for people: what jobs contain, made harmless; instants and durations as one says them.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text of a job as a terminal may show it: characters that would move its cursor, change its colours or
/// turn the direction of its text stand as escapes.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.contains(harms) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => shown += "\\n",
            '\t' => shown += "\\t",
            '\r' => shown += "\\r",
            c if harms(c) => {
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// JSON as a terminal may show it: the same value, with the same characters escaped. Outside of its texts,
/// JSON has none of them.
pub(crate) fn harmless_json(json: &str) -> Cow<'_, str> {
    if !json.contains(harms) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 8);
    for c in json.chars() {
        if harms(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, those that separate lines, and those that turn or hide text without a trace.
fn harms(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{61c}' | '\u{ad}')
}

/// The first characters of a text, with a sign where there are more.
pub(crate) fn short(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let kept = text
                .char_indices()
                .nth(most.saturating_sub(1))
                .map_or(0, |(at, _)| at);
            Cow::Owned(format!("{}…", &text[..kept]))
        }
    }
}

/// An instant, as `2026-03-01 17:04:05.123 UTC`.
pub(crate) fn instant(us: i64) -> String {
    let (seconds, millis) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000) / 1000);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03} UTC")
}

/// The date that is so many days after the first of 1970, in the calendar of today.
fn date(days: i64) -> (i64, i64, i64) {
    // Counted from the first of March of the year 0, so that the day that comes every four years is the last
    // of its year: every 400 years have as many days.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// How long, in the largest unit that says it, with the next one: `3d4h`, `12m5s`, `250ms`.
pub(crate) fn duration(us: i64) -> String {
    let us = us.max(0);
    const UNITS: [(i64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let seconds = us / 1_000_000;
    for (i, (unit, name)) in UNITS.iter().enumerate() {
        if seconds >= *unit {
            let next = UNITS.get(i + 1).map(|(next, name)| (seconds % unit / next, name));
            return match next {
                Some((rest, name_of_rest)) if rest > 0 => {
                    format!("{}{name}{rest}{name_of_rest}", seconds / unit)
                }
                _ => format!("{}{name}", seconds / unit),
            };
        }
    }
    if us >= 1000 {
        format!("{}ms", us / 1000)
    } else {
        format!("{us}us")
    }
}

/// The present instant, in microseconds.
pub(crate) fn now_us() -> i64 {
    forebay::Clock::now(&forebay::SystemClock).as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        for (text, shown) in [
            ("plain é 漢 🙂", "plain é 漢 🙂"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("a\nb\tc\rd\0", "a\\nb\\tc\\rd\\u{0}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}txt\u{2066}\u{200b}", "\\u{202e}txt\\u{2066}\\u{200b}"),
        ] {
            assert_eq!(harmless(text), shown);
        }
        let json = serde_json::to_string("a\u{9b}\u{202e}\u{e0001}\u{1b}é").unwrap();
        let shown = harmless_json(&json);
        assert!(!shown.contains(harms), "{shown}");
        assert_eq!(
            serde_json::from_str::<String>(&shown).unwrap(),
            "a\u{9b}\u{202e}\u{e0001}\u{1b}é"
        );
    }

    #[test]
    fn instants_are_those_of_the_calendar() {
        for (us, shown) in [
            (0, "1970-01-01 00:00:00.000 UTC"),
            (-1, "1969-12-31 23:59:59.999 UTC"),
            (951_782_400_000_000, "2000-02-29 00:00:00.000 UTC"),
            (1_709_251_199_999_999, "2024-02-29 23:59:59.999 UTC"),
            (1_709_251_200_000_000, "2024-03-01 00:00:00.000 UTC"),
            (4_107_542_400_000_000, "2100-03-01 00:00:00.000 UTC"),
            (1_700_000_000_123_456, "2023-11-14 22:13:20.123 UTC"),
        ] {
            assert_eq!(instant(us), shown);
        }
        instant(i64::MAX);
        instant(i64::MIN);
    }

    #[test]
    fn durations_are_short() {
        for (us, shown) in [
            (-5, "0us"),
            (999, "999us"),
            (250_000, "250ms"),
            (5_900_000, "5s"),
            (725_000_000, "12m5s"),
            (3_600_000_000, "1h"),
            (273_600_000_000, "3d4h"),
        ] {
            assert_eq!(duration(us), shown);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(short("äöü", 3), "äöü");
        assert_eq!(short("äöüß", 3), "äö…");
        assert_eq!(short("", 0), "");
    }
}
