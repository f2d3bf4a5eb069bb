use proptest::prelude::*;

use super::*;

fn canonical_of(text: &str) -> String {
    canonical(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .into_owned()
}

#[test]
fn quantities_have_one_canonical_form() {
    for (written, expected) in [
        ("0", "0"),
        ("0m", "0"),
        ("0.0", "0"),
        ("-0", "0"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1024Mi", "1Gi"),
        ("1536Mi", "1536Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.5Mi", "512Ki"),
        ("0.5Ki", "512"),
        ("200Mi", "200Mi"),
        ("1024", "1024"),
        ("1000", "1k"),
        ("1e3", "1e3"),
        ("1000e3", "1e6"),
        ("1E3", "1E3"),
        ("100m", "100m"),
        ("100u", "100u"),
        ("1000000n", "1m"),
        ("0.1n", "1n"),
        ("2000Ki", "2000Ki"),
        ("1Ei", "1Ei"),
        ("16Ei", "9223372036854775807"),
        ("-1.5", "-1500m"),
        ("1.", "1."),
        ("129M", "129M"),
        ("128974848", "128974848"),
        ("123Mi", "123Mi"),
        ("128974848000m", "128974848"),
    ] {
        assert_eq!(canonical_of(written), expected, "{written}");
    }
}

#[test]
fn invalid_quantities_are_rejected() {
    for bad in [
        "", "-", "+", "a", "1.2.3", "1ki", "1KI", "1 Gi", "0x10", "1e", "1e+", "Gi", "--1", "1Mi2", "ü",
    ] {
        assert_eq!(canonical(bad).err(), Some(ParseQuantityError), "{bad}");
    }
}

#[test]
fn numbers_are_rounded_up() {
    let quantity = |text: &str| text.parse::<Quantity>().expect("a quantity");
    assert_eq!(quantity("1m").value(), 1);
    assert_eq!(quantity("1001m").value(), 2);
    assert_eq!(quantity("1u").milli(), 1);
    assert_eq!(quantity("200Mi").value(), 209_715_200);
    assert_eq!(quantity("0.1").milli(), 100);
    assert_eq!(quantity("-1500m").value(), -2);
    assert_eq!(quantity("1n").round_up_to_milli().to_string(), "1m");
    assert_eq!(quantity("9E").milli(), i64::MAX);
}

#[test]
fn sums_keep_the_notation_of_the_first_operand() {
    let sum = Quantity::ZERO + Quantity::from_bytes(100 << 20) + Quantity::from_bytes(100 << 20);
    assert_eq!(sum.to_string(), "200Mi");
    assert_eq!(
        (Quantity::from_milli(250) + Quantity::from_milli(750)).to_string(),
        "1"
    );
    assert_eq!(
        (Quantity::from_count(2) - Quantity::from_milli(500)).to_string(),
        "1500m"
    );
    assert!(Quantity::from_milli(999) < Quantity::from_count(1));
}

#[test]
fn very_long_numbers_are_capped() {
    let long = "9".repeat(10_000);
    assert!(long.parse::<Quantity>().is_ok());
    assert!(
        format!("0.{long}")
            .parse::<Quantity>()
            .is_ok_and(|quantity| quantity.value() == 1)
    );
    assert!(format!("1e{}", i32::MAX).parse::<Quantity>().is_ok());
    assert!(
        format!("1e{}", i32::MIN)
            .parse::<Quantity>()
            .is_ok_and(|quantity| quantity.value() == 1)
    );
}

proptest! {
    #[test]
    fn canonical_form_is_the_same_number_and_stays(nanos in -1_000_000_000_000_000_000i128..1_000_000_000_000_000_000, notation in 0usize..3) {
        let notation = [Notation::Decimal, Notation::Binary, Notation::Exponent][notation];
        let quantity = Quantity { nanos, notation };
        let text = quantity.to_string();
        let again: Quantity = text.parse().expect("its own text");
        prop_assert_eq!(again, quantity);
        prop_assert_eq!(canonical_of(&text), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
        if let Ok(canonical) = canonical(&text) {
            prop_assert!(canonical.parse::<Quantity>().is_ok());
        }
    }

    #[test]
    fn plausible_text_is_read_or_refused(text in "[-+]?[0-9]{0,30}[.]?[0-9]{0,30}(|n|u|m|k|M|E|Ki|Ei|e[0-9]{1,3}|e-[0-9]{1,3})") {
        if let Ok(canonical) = canonical(&text) {
            prop_assert!(canonical.parse::<Quantity>().is_ok());
        }
    }
}
