//! Values that are a whole number or a percentage, such as `maxUnavailable`.

use serde_json::Value;

/// A whole number or a percentage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntOrPercent {
    /// A number.
    Int(i32),
    /// A percentage, e.g. 10 for `10%`.
    Percent(i32),
}

impl IntOrPercent {
    /// Parses `3` or `"10%"`; `None` for anything else.
    pub fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => i32::try_from(number.as_i64()?).ok().map(Self::Int),
            Value::String(text) => Self::percent(text),
            _ => None,
        }
    }

    fn percent(text: &str) -> Option<Self> {
        let digits = text.strip_suffix('%')?;
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // Digits can fail to parse only when the number is too large; any percentage above 100 has
        // the same effect.
        plain.then(|| Self::Percent(digits.parse().unwrap_or(i32::MAX)))
    }

    /// Returns the number, or the percentage of `total`, rounded up or down.
    pub fn scaled(self, total: i32, round_up: bool) -> i32 {
        match self {
            Self::Int(number) => number,
            Self::Percent(percent) => {
                let product = i64::from(percent) * i64::from(total);
                let scaled = if round_up {
                    product.div_euclid(100) + i64::from(product.rem_euclid(100) != 0)
                } else {
                    product.div_euclid(100)
                };
                scaled.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_numbers_and_percentages_are_parsed() {
        assert_eq!(IntOrPercent::from_value(&json!(3)), Some(IntOrPercent::Int(3)));
        assert_eq!(
            IntOrPercent::from_value(&json!("10%")),
            Some(IntOrPercent::Percent(10))
        );
        assert_eq!(
            IntOrPercent::from_value(&json!("99999999999%")),
            Some(IntOrPercent::Percent(i32::MAX)),
            "a percentage, though validation rejects it"
        );
        for bad in [
            json!("10"),
            json!("%"),
            json!("-1%"),
            json!("1.5%"),
            json!(true),
            json!(1u64 << 40),
        ] {
            assert_eq!(IntOrPercent::from_value(&bad), None, "{bad}");
        }
    }

    #[test]
    fn percentage_is_rounded_up_or_down() {
        assert_eq!(IntOrPercent::Percent(10).scaled(11, true), 2);
        assert_eq!(IntOrPercent::Percent(10).scaled(11, false), 1);
        assert_eq!(IntOrPercent::Percent(10).scaled(10, true), 1);
        assert_eq!(IntOrPercent::Percent(0).scaled(100_000, true), 0);
        assert_eq!(IntOrPercent::Percent(100).scaled(100_000, true), 100_000);
        assert_eq!(IntOrPercent::Int(7).scaled(3, true), 7);
        assert_eq!(IntOrPercent::Percent(i32::MAX).scaled(i32::MAX, true), i32::MAX);
    }
}
