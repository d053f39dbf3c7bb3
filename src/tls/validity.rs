//! Until when a certificate is valid: the one field that the library checks in others' certificates
//! and does not tell of one's own.
//!
//! Pure: DER in, seconds since 1970 out (RFC 5280 §4.1, and X.690 for the encoding).

use std::time::Duration;

/// The tags of the encoding that occur on the way.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity, since 1970; `None`: it is no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<Duration> {
    let mut outer = Der(certificate);
    let mut signed = Der(Der(outer.expect(SEQUENCE)?).expect(SEQUENCE)?);
    if signed.tag()? == VERSION {
        signed.next()?;
    }
    // The serial number, the algorithm, the issuer.
    for _ in 0..3 {
        signed.next()?;
    }
    let mut validity = Der(signed.expect(SEQUENCE)?);
    validity.next()?;
    match validity.next()? {
        (UTC_TIME, text) => {
            let (year, rest) = text.split_at_checked(2)?;
            let year = number(year)?;
            // Two digits of a year are of 1950 to 2049.
            time(if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, text) => {
            let (year, rest) = text.split_at_checked(4)?;
            time(number(year)?, rest)
        }
        _ => None,
    }
}

/// The seconds at `MMDDHHMMSSZ` of `year`.
fn time(year: i64, text: &[u8]) -> Option<Duration> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.len() == 10)?;
    let mut fields = digits.chunks(2).map(number);
    let mut next = || fields.next()?;
    let (month, day) = (next()?, next()?);
    let (hour, minute, second) = (next()?, next()?, next()?);
    if !(1..=12).contains(&month) {
        return None;
    }
    // Years begin in March here, so that the day that some have comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_of_years = 365 * year + year / 4 - year / 100 + year / 400;
    let days = days_of_years + (153 * month + 2) / 5 + day - 1 - DAYS_BEFORE_1970;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    // Before 1970 everything has expired.
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// From the 1st of March of the year 0 to the beginning of 1970.
const DAYS_BEFORE_1970: i64 = 719_468;

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// Values of the encoding, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn tag(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value, with its tag.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            // So many bytes are the length: more than four would be no certificate.
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(length - 0x80))?;
                let add = |length, digit: &u8| length << 8 | usize::from(*digit);
                (digits.iter().fold(0, add), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate_until(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut wanted = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
        wanted.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        wanted.self_signed(&key).unwrap().der().to_vec()
    }

    /// The end of the validity is read in both notations of a time, over leap years.
    #[test]
    fn the_end_of_the_validity_is_read() {
        for (date, seconds) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 951_782_400),
            ((2000, 3, 1), 951_868_800),
            ((2023, 12, 31), 1_703_980_800),
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((2100, 3, 1), 4_107_542_400),
        ] {
            let (year, month, day) = date;
            let end = not_after(&certificate_until(year, month, day));
            assert_eq!(end, Some(Duration::from_secs(seconds)), "{date:?}");
        }
    }

    #[test]
    fn cut_or_changed_bytes_are_no_certificate() {
        let whole = certificate_until(2030, 5, 6);
        assert!((0..whole.len()).all(|end| not_after(&whole[..end]).is_none()));
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                // Some other time, or none; never a panic.
                let _ = not_after(&changed);
            }
        }
        assert_eq!(not_after(b""), None);
    }
}
