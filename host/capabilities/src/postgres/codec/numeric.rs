//! `numeric`: decimal text and Postgres' groups of four digits, exact at any length.

/// Each group on the wire holds so many decimal digits.
const DIGITS_PER_GROUP: usize = 4;
const NEGATIVE: u16 = 0x4000;
const POSITIVE: u16 = 0x0000;
/// The most digits after the point that a value on the wire can have.
const SCALE_MAX: usize = 0x3fff;

/// Writes the binary form of a decimal number such as `-12.50`; nothing where the text is not one. Neither
/// exponents nor `NaN` are decimals here.
pub(super) fn encode(text: &str, out: &mut Vec<u8>) -> Option<()> {
    let (sign, digits) = match text.as_bytes() {
        [b'-', ..] => (NEGATIVE, &text[1..]),
        [b'+', ..] => (POSITIVE, &text[1..]),
        _ => (POSITIVE, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    if fraction.len() > SCALE_MAX {
        return None;
    }
    let whole = whole.trim_start_matches('0');
    let groups = groups(whole, fraction);
    // Neither leading nor trailing groups of zeros are sent: the weight says where the first one stands.
    let leading = groups.iter().take_while(|group| **group == 0).count();
    let trailing = groups[leading..].iter().rev().take_while(|group| **group == 0).count();
    let sent = &groups[leading..groups.len() - trailing];
    let weight =
        i64::try_from(whole.len().div_ceil(DIGITS_PER_GROUP)).ok()? - 1 - i64::try_from(leading).ok()?;
    let (weight, sign) = if sent.is_empty() { (0, POSITIVE) } else { (weight, sign) };

    out.extend_from_slice(&i16::try_from(sent.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&i16::try_from(weight).ok()?.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&i16::try_from(fraction.len()).ok()?.to_be_bytes());
    sent.iter().for_each(|group| out.extend_from_slice(&group.to_be_bytes()));
    Some(())
}

/// The digits in groups of four, aligned to the decimal point.
fn groups(whole: &str, fraction: &str) -> Vec<u16> {
    let number = |digits: &[u8]| digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    let first = whole.len() % DIGITS_PER_GROUP;
    let (head, rest) = whole.as_bytes().split_at(first);
    let head = (!head.is_empty()).then(|| number(head));
    let rest = rest.chunks(DIGITS_PER_GROUP).map(number);
    let fraction = fraction
        .as_bytes()
        .chunks(DIGITS_PER_GROUP)
        .map(|chunk| (chunk.len()..DIGITS_PER_GROUP).fold(number(chunk), |sum, _| sum * 10));
    head.into_iter().chain(rest).chain(fraction).collect()
}

/// Bytes of the text that a value's binary form stands for, at most.
pub(super) fn text_bytes(bytes: &[u8]) -> usize {
    const SIGN_AND_POINT: usize = 2;
    let field = |at: usize| bytes.get(at..at + 2).map_or(0, |field| i16::from_be_bytes([field[0], field[1]]));
    let positive = |field: i16| usize::try_from(field).unwrap_or(0);
    SIGN_AND_POINT + (positive(field(2)) + 1) * DIGITS_PER_GROUP + positive(field(6))
}

/// The decimal text of a value's binary form, with its scale; nothing for `NaN`, the infinities and broken bytes.
pub(super) fn decode(bytes: &[u8]) -> Option<String> {
    let (header, groups) = bytes.split_at_checked(8)?;
    let field = |at: usize| [header[at], header[at + 1]];
    let weight = i16::from_be_bytes(field(2));
    let sign = u16::from_be_bytes(field(4));
    let scale = usize::try_from(i16::from_be_bytes(field(6))).ok()?;
    if sign != POSITIVE && sign != NEGATIVE {
        return None;
    }
    let groups: Vec<u16> =
        groups.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    if groups.len() != usize::try_from(i16::from_be_bytes(field(0))).ok()? {
        return None;
    }
    // The group that stands for 10000^position; those not sent are zero.
    let group = |position: i32| {
        usize::try_from(i32::from(weight) - position).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0)
    };
    let mut text = String::from(if sign == NEGATIVE { "-" } else { "" });
    if weight < 0 {
        text.push('0');
    } else {
        text.push_str(&group(i32::from(weight)).to_string());
        (0..i32::from(weight)).rev().for_each(|position| text.push_str(&format!("{:04}", group(position))));
    }
    if scale > 0 {
        text.push('.');
        let end = text.len() + scale;
        let mut position = -1;
        while text.len() < end {
            text.push_str(&format!("{:04}", group(position)));
            position -= 1;
        }
        text.truncate(end);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_come_back_as_they_were_written() {
        let long = format!("{}.{}", "9".repeat(60), "1".repeat(41));
        let cases = [
            "0",
            "1",
            "-1",
            "10000",
            "9999",
            "0.1",
            "0.00001",
            "-0.00010",
            "12345678.90",
            "100000000",
            "1.10",
            "0.0000",
            "20000.00005",
            long.as_str(),
        ];
        for case in cases {
            let mut bytes = Vec::new();
            assert_eq!(encode(case, &mut bytes), Some(()), "{case}");
            assert_eq!(decode(&bytes).as_deref(), Some(case));
        }
    }

    #[test]
    fn other_spellings_are_brought_to_one() {
        for (written, read) in [("+5", "5"), ("007.50", "7.50"), (".5", "0.5"), ("5.", "5"), ("-0", "0")] {
            let mut bytes = Vec::new();
            assert_eq!(encode(written, &mut bytes), Some(()), "{written}");
            assert_eq!(decode(&bytes).as_deref(), Some(read), "{written}");
        }
    }

    #[test]
    fn few_bytes_are_counted_as_the_text_that_they_stand_for() {
        // The largest weight, one group, the largest scale.
        let bytes = [[0, 1], [0x7f, 0xff], [0, 0], [0x3f, 0xff], [0, 1]].concat();
        let text = decode(&bytes).expect("a decimal");
        assert_eq!((bytes.len(), text.len()), (10, 131_072 - 3 + 1 + SCALE_MAX));
        assert!((text.len()..text.len() + 8).contains(&text_bytes(&bytes)));
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for case in ["", "-", ".", "1e5", "NaN", "Infinity", "1,5", "1.2.3", " 1", "--1", "١"] {
            assert_eq!(encode(case, &mut Vec::new()), None, "{case}");
        }
        assert_eq!(decode(&[0, 0, 0, 0, 0xc0, 0, 0, 0]), None, "NaN");
    }
}
