//! Random acts and clock steps on two instances, compared after each one with a model in memory.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::driver::{Act, By, Driver, Kind};
use crate::support::sources::{HOUR, MINUTE};

const CASES: u32 = 64;
const ACTS: usize = 40;

fn by() -> impl Strategy<Value = By> {
    prop_oneof![
        Just(By::Instance),
        Just(By::Owner),
        (0_usize..8).prop_map(By::Machine)
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let machine = || 0_usize..8;
    let token = || 0_usize..32;
    let seconds = || prop_oneof![Just(1.0), Just(60.0), Just(3600.0), Just(7200.0)];
    let kind = prop_oneof![
        3 => Just(Kind::Opaque),
        2 => Just(Kind::Jwt),
        3 => Just(Kind::Pooled(0)),
    ];
    prop_oneof![
        16 => (machine(), kind, seconds()).prop_map(|(machine, kind, seconds)| Act::Issue(machine, kind, seconds)),
        6 => (token(), by()).prop_map(|(token, by)| Act::Revoke(token, by)),
        4 => (token(), by(), seconds()).prop_map(|(token, by, seconds)| Act::Extend(token, by, seconds)),
        4 => (machine(), machine()).prop_map(|(from, to)| Act::AddScope(from, to)),
        3 => (machine(), machine()).prop_map(|(from, to)| Act::RemoveScope(from, to)),
        2 => (0_usize..2, machine()).prop_map(|(instance, scope)| Act::CreateMachine { instance, scope }),
        1 => machine().prop_map(Act::DeleteMachine),
        3 => (machine(), prop_oneof![Just(0_i64), Just(60), Just(28_800)]).prop_map(|(machine, ttl)| Act::Rotate(machine, ttl)),
        1 => machine().prop_map(Act::RenameMachine),
        2 => machine().prop_map(Act::EndTokens),
        1 => (0_usize..2).prop_map(Act::EndAllTokens),
        1 => (0_usize..2, any::<bool>()).prop_map(|(instance, is_on)| Act::WriteScopesClaim(instance, is_on)),
        5 => prop_oneof![Just(1_i64), Just(1000), Just(MINUTE), Just(HOUR)].prop_map(Act::Advance),
        3 => (-24 * HOUR..HOUR).prop_map(Act::StepWall),
        2 => Just(Act::Maintain),
        1 => Just(Act::Restart),
    ]
}

#[test]
fn every_verification_is_what_the_model_says() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (template, instances) = runtime.block_on(Driver::template());
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let story = proptest::collection::vec(act(), ACTS);
    let seen = Cell::new([0; 5]);
    let outcome = runner.run(&story, |acts| {
        runtime.block_on(async {
            let mut driver = Driver::new(&template, &instances, false).await;
            for act in acts {
                driver.act(act).await;
                driver.check_all().await;
            }
            driver.check_logs().await;
            let (all, new) = (seen.get(), driver.seen());
            seen.set(std::array::from_fn(|place| all[place] + new[place]));
        });
        Ok(())
    });
    outcome.unwrap();
    // The stories are worth telling: each answer was given many times.
    let seen = seen.get();
    assert!(
        seen.iter().all(|count| *count > 1000),
        "{:?}: {seen:?}",
        Driver::ANSWERS
    );
}
