//! The demo, whole.

use crate::support::Place;

#[test]
fn every_step_of_the_demo_holds() {
    let ended = Place::new().run(&["demo"]);
    let account = &ended.stdout;
    assert_eq!(ended.code, 0, "{account}\n{}", ended.stderr);
    assert_eq!(account.matches('✓').count(), 17, "{account}");
    assert!(account.contains("All 17 steps held."), "{account}");
    // Colours are for terminals.
    assert!(!account.contains('\u{1b}'), "{account}");
    assert_eq!(ended.stderr, "");
}
