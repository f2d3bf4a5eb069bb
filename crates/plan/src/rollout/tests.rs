use super::*;

fn budget(max_unavailable: IntOrPercent, max_surge: IntOrPercent, desired: usize) -> (usize, usize) {
    let budget = Budget::of(
        &UpdateStrategyView::RollingUpdate {
            max_unavailable,
            max_surge,
        },
        desired,
    );
    (budget.max_unavailable, budget.max_surge)
}

use IntOrPercent::{Int, Percent};

#[test]
fn numbers_stand_and_percentages_of_the_desired_nodes_round_up() {
    assert_eq!(budget(Int(3), Int(0), 5), (3, 0));
    assert_eq!(budget(Percent(50), Int(0), 5), (3, 0));
    assert_eq!(budget(Percent(100), Int(0), 5), (5, 0));
    assert_eq!(budget(Int(0), Percent(1), 5), (0, 1));
    assert_eq!(budget(Int(0), Percent(10), 100_000), (0, 10_000));
}

#[test]
fn zero_budget_allows_one_unavailable_node_if_any_exist() {
    assert_eq!(budget(Int(0), Int(0), 5), (1, 0));
    assert_eq!(budget(Percent(0), Percent(0), 5), (1, 0));
    assert_eq!(budget(Int(0), Int(0), 0), (0, 0));
}

#[test]
fn a_strategy_surges_as_soon_as_its_surge_is_not_zero() {
    let mode = |max_surge| {
        Mode::of(&UpdateStrategyView::RollingUpdate {
            max_unavailable: Int(0),
            max_surge,
        })
    };
    assert_eq!(mode(Percent(1)), Mode::Surge);
    assert_eq!(mode(Int(1)), Mode::Surge);
    assert_eq!(mode(Percent(0)), Mode::InPlace);
    assert_eq!(Mode::of(&UpdateStrategyView::OnDelete), Mode::OnDelete);
}
