//! Resource quantities, such as `200Mi`, `0.5` or `1e3`.
//!
//! A quantity is an exact number of billionths and its notation. The canonical form depends on
//! both: `0.5` is `500m`, `1024Mi` is `1Gi`, `1e3` keeps its exponent.

use std::{borrow::Cow, cmp::Ordering, fmt, str::FromStr};

use serde_json::Value;

/// An exact number and its notation. Equality and order ignore the notation.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    notation: Notation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    /// `500m`, `1`, `2k`
    Decimal,
    /// `1Gi`
    Binary,
    /// `1e3`
    Exponent,
}

/// Not a quantity. The message is Kubernetes'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct ParseQuantityError;

/// Number of billionths in 1.
const NANO: i128 = 1_000_000_000;

/// Number of billionths in 0.001.
const NANOS_IN_MILLI: i128 = 1_000_000;

/// Largest absolute value. The sum of 100,000 such quantities does not overflow.
const MAX_WHOLE: i128 = 1_000_000_000_000_000_000_000;

/// Most digits that are parsed. A longer number is above the largest value or has an irrelevant
/// fraction.
const MAX_DIGITS: usize = 64;

/// The parts of the text.
struct Parts<'a> {
    negative: bool,
    /// Digits before the decimal point without leading zeros, or `0`.
    whole: &'a str,
    fraction: &'a str,
    scale: Scale,
    notation: Notation,
}

#[derive(Clone, Copy)]
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of two.
    Two(u32),
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = unsigned.split_at(digits(unsigned));
        let (fraction, suffix, point) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (fraction, suffix) = rest.split_at(digits(rest));
                (fraction, suffix, true)
            }
            None => ("", rest, false),
        };
        if whole.is_empty() && !point {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let (scale, notation) = suffix_scale(suffix)?;
        Some(Self {
            negative,
            whole: if whole.is_empty() { "0" } else { whole },
            fraction,
            scale,
            notation,
        })
    }

    /// Returns the number of all digits without the decimal point.
    fn mantissa(&self) -> Option<i128> {
        if self.whole.len() + self.fraction.len() > MAX_DIGITS {
            return None;
        }
        self.whole
            .bytes()
            .chain(self.fraction.bytes())
            .try_fold(0i128, |sum, digit| {
                sum.checked_mul(10)?.checked_add(i128::from(digit - b'0'))
            })
    }

    /// Returns whether Kubernetes keeps the text as it is.
    fn is_kept(&self) -> bool {
        match self.scale {
            Scale::Two(exponent) => {
                self.fraction.is_empty()
                    && exponent > 0
                    && self.whole.len() + exponent as usize * 3 / 10 <= 14
                    && self.mantissa().is_some_and(|value| value & 7 != 0)
            }
            Scale::Ten(exponent) => {
                let scale = exponent.saturating_sub(i32::try_from(self.fraction.len()).unwrap_or(i32::MAX));
                let digits = self.whole.len() + self.fraction.len();
                let thousands = ends_with_three_zeros(self.whole, self.fraction);
                digits <= 18 && scale >= -9 && scale % 3 == 0 && !thousands && !self.whole.starts_with('0')
            }
        }
    }
}

fn ends_with_three_zeros(whole: &str, fraction: &str) -> bool {
    whole
        .bytes()
        .chain(fraction.bytes())
        .rev()
        .take_while(|digit| *digit == b'0')
        .count()
        >= 3
}

fn suffix_scale(suffix: &str) -> Option<(Scale, Notation)> {
    let decimal = |exponent| Some((Scale::Ten(exponent), Notation::Decimal));
    let binary = |exponent| Some((Scale::Two(exponent), Notation::Binary));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            exponent
                .parse()
                .ok()
                .map(|exponent| (Scale::Ten(exponent), Notation::Exponent))
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        let parts = Parts::of(text).ok_or(ParseQuantityError)?;
        let cap = MAX_WHOLE * NANO;
        let mantissa = match parts.mantissa() {
            Some(mantissa) => mantissa,
            // Too many digits: either a number above the largest value, or a fraction with digits
            // below a billionth.
            None if parts.whole.len() > MAX_DIGITS / 2 => {
                return Ok(Self::signed(parts.negative, cap, parts.notation));
            }
            None => {
                let kept = MAX_DIGITS / 2 - 1;
                let shortened = Parts {
                    fraction: parts.fraction.get(..kept).unwrap_or(parts.fraction),
                    whole: parts.whole.get(..kept).unwrap_or(parts.whole),
                    ..parts
                };
                shortened.mantissa().unwrap_or(cap)
            }
        };
        let fraction = parts.fraction.len().min(MAX_DIGITS / 2 - 1) as i32;
        let nanos = match parts.scale {
            Scale::Ten(exponent) => shift(mantissa, exponent.saturating_sub(fraction).saturating_add(9)),
            Scale::Two(exponent) => match mantissa.checked_mul(1 << exponent) {
                Some(product) => shift(product, 9 - fraction).min(i128::from(i64::MAX) * NANO),
                None => i128::from(i64::MAX) * NANO,
            },
        };
        let notation = if parts.notation == Notation::Binary && nanos < NANO && nanos > 0 {
            Notation::Decimal
        } else {
            parts.notation
        };
        Ok(Self::signed(parts.negative, nanos.min(cap), notation))
    }
}

/// Multiplies `number` by ten to the power of `exponent`. Rounds up, so that a small request is
/// never zero. Saturates.
fn shift(number: i128, exponent: i32) -> i128 {
    let power = |exponent: u32| 10i128.checked_pow(exponent);
    if number == 0 {
        0
    } else if exponent >= 0 {
        power(exponent.unsigned_abs())
            .and_then(|power| number.checked_mul(power))
            .unwrap_or(i128::MAX)
    } else {
        power(exponent.unsigned_abs()).map_or(1, |power| ceil(number, power))
    }
}

/// Divides and rounds away from zero.
fn ceil(number: i128, by: i128) -> i128 {
    number / by + (number % by).signum()
}

fn saturate(number: i128) -> i64 {
    number.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

impl Quantity {
    /// Zero, in decimal notation.
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        notation: Notation::Decimal,
    };

    fn signed(negative: bool, nanos: i128, notation: Notation) -> Self {
        Self {
            nanos: if negative { -nanos } else { nanos },
            notation,
        }
    }

    /// Parses a quantity; the same as [`str::parse`].
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        text.parse()
    }

    /// Parses a JSON string or number.
    pub fn from_value(value: &Value) -> Result<Self, ParseQuantityError> {
        match value {
            Value::String(text) => text.trim().parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(ParseQuantityError),
        }
    }

    /// Returns a whole number in decimal notation, e.g. a number of pods.
    pub fn from_count(count: i64) -> Self {
        Self {
            nanos: i128::from(count) * NANO,
            notation: Notation::Decimal,
        }
    }

    /// Returns a number of bytes in binary notation, e.g. `200Mi`.
    pub fn from_bytes(bytes: i64) -> Self {
        Self {
            nanos: i128::from(bytes) * NANO,
            notation: Notation::Binary,
        }
    }

    /// Returns a number of thousandths in decimal notation, e.g. `100m`.
    pub fn from_milli(thousandths: i64) -> Self {
        Self {
            nanos: i128::from(thousandths) * NANOS_IN_MILLI,
            notation: Notation::Decimal,
        }
    }

    /// Returns the quantity in thousandths, rounded away from zero, saturating.
    pub fn milli(&self) -> i64 {
        saturate(ceil(self.nanos, NANOS_IN_MILLI))
    }

    /// Returns the quantity in whole numbers, rounded away from zero, saturating.
    pub fn value(&self) -> i64 {
        saturate(ceil(self.nanos, NANO))
    }

    /// Rounds away from zero to a multiple of 0.001, as in a container's resource lists.
    pub fn round_up_to_milli(self) -> Self {
        Self {
            nanos: ceil(self.nanos, NANOS_IN_MILLI) * NANOS_IN_MILLI,
            ..self
        }
    }

    /// Returns whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Returns -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }
}

/// Returns the canonical text of a quantity. A canonical text is borrowed.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, ParseQuantityError> {
    let parts = Parts::of(text).ok_or(ParseQuantityError)?;
    if parts.is_kept() {
        return Ok(Cow::Borrowed(text));
    }
    let written = text.parse::<Quantity>()?.to_string();
    Ok(if written == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(written)
    })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANO;
        let binary = self.notation == Notation::Binary && whole.abs() >= 1024 && self.nanos % NANO == 0;
        if binary {
            const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
            let (mut number, mut power) = (whole, 0);
            while number % 1024 == 0 && power + 1 < SUFFIXES.len() {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", SUFFIXES[power]);
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 10 == 0 {
            number /= 10;
            exponent += 1;
        }
        while exponent % 3 != 0 {
            number *= 10;
            exponent -= 1;
        }
        let exponential = self.notation == Notation::Exponent;
        match exponent {
            0 => write!(f, "{number}"),
            _ if exponential => write!(f, "{number}e{exponent}"),
            -9 => write!(f, "{number}n"),
            -6 => write!(f, "{number}u"),
            -3 => write!(f, "{number}m"),
            3 => write!(f, "{number}k"),
            6 => write!(f, "{number}M"),
            9 => write!(f, "{number}G"),
            12 => write!(f, "{number}T"),
            15 => write!(f, "{number}P"),
            18 => write!(f, "{number}E"),
            _ => write!(f, "{number}e{exponent}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    /// The sum has the notation of the first operand, unless that is zero.
    fn add(self, other: Quantity) -> Quantity {
        let notation = if self.is_zero() {
            other.notation
        } else {
            self.notation
        };
        Quantity {
            nanos: self.nanos.saturating_add(other.nanos),
            notation,
        }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        let notation = if self.is_zero() {
            other.notation
        } else {
            self.notation
        };
        Quantity {
            nanos: self.nanos.saturating_sub(other.nanos),
            notation,
        }
    }
}

#[cfg(test)]
mod tests;
