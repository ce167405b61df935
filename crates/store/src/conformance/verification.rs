//! Verifications reflect the latest acknowledged changes.

use std::sync::Arc;

use countersign_protocol::change::Cause;
use countersign_protocol::ids::{InstanceId, TokenId};
use countersign_protocol::settings::InstanceSettings;

use super::world::{World, change_at, revocation, some_change};
use crate::{
    MachineRow, MachineUpdate, NewToken, Presented, Proof, SigningKeyState, Store, StoredToken,
    Verification,
};

async fn verify(store: &dyn Store, presented: Presented, id: TokenId) -> Verification {
    let verification = store.verification(presented, id.locator()).await;
    verification.unwrap().unwrap()
}

/// Checks that a verification shows the token as every other operation does.
async fn assert_current(world: &World, presented: Presented, id: TokenId) -> StoredToken {
    let verification = verify(&*world.store, presented, id).await;
    let (token, instance) = (verification.token.unwrap(), verification.caller.instance());
    let found = world.find(instance, id).await.unwrap();
    assert_eq!((token.row.id, token.row.proof), (id, found.row.proof));
    assert_eq!(token.row.scopes, found.row.scopes);
    assert_eq!(
        (&token.row.claims, &token.row.revoked),
        (&found.row.claims, &found.row.revoked)
    );
    assert_eq!(token.row.created_at, found.row.created_at);
    assert_eq!(token.row.expires_at, found.row.expires_at);
    assert_eq!(token.machine, world.current(&token.machine).await);
    assert_eq!(token.instance, world.current_instance(instance).await);
    assert_eq!(token.signing_key, found.signing_key);
    token
}

/// A machine that verifies, by its key, and one that has tokens.
async fn two_machines(world: &World) -> (InstanceId, Presented, Arc<MachineRow>) {
    let instance = world.instance().await;
    let receiver = world.new_machine(instance, "receiver");
    let presented = Presented::Machine(receiver.key.digest);
    let receiver = world.insert(receiver).await;
    let caller = world.machine_with(instance, "caller", &[&receiver]).await;
    (instance, presented, caller)
}

pub async fn a_verification_shows_the_caller_and_the_token(world: World) {
    let (instance, machine_key, machine) = two_machines(&world).await;
    let instance_key = Presented::Instance(world.first_instance_key(instance).await.digest);
    for token in [world.new_token(&machine), world.new_jwt(&machine)] {
        let (format, id) = (token.proof.format(), world.issue(token).await);
        for presented in [machine_key, instance_key] {
            let token = assert_current(&world, presented, id).await;
            assert_eq!((token.row.format(), &token.machine), (format, &machine));
            let verification = verify(&*world.store, presented, id).await;
            assert_eq!(verification.caller.instance(), instance);
        }
    }
    let unknown = verify(&*world.store, machine_key, world.token_id()).await;
    assert!(unknown.token.is_none());
    let nobody = Presented::Machine(world.digest());
    let locator = world.token_id().locator();
    assert!(
        world
            .store
            .verification(nobody, locator)
            .await
            .unwrap()
            .is_none()
    );
}

pub async fn a_verification_finds_no_token_of_another_instance(world: World) {
    let (_, mine, machine) = two_machines(&world).await;
    let (_, other, others_machine) = two_machines(&world).await;
    let (id, others_id) = (
        world.token(&machine).await,
        world.token(&others_machine).await,
    );
    // In both orders, so that what one reader keeps in memory does not answer the other.
    for _ in 0..2 {
        assert!(verify(&*world.store, mine, others_id).await.token.is_none());
        assert!(
            verify(&*world.store, other, others_id)
                .await
                .token
                .is_some()
        );
        assert!(verify(&*world.store, other, id).await.token.is_none());
        assert!(verify(&*world.store, mine, id).await.token.is_some());
    }
}

pub async fn a_verification_shows_each_change_at_once(world: World) {
    let (instance, presented, machine) = two_machines(&world).await;
    let id = world.token(&machine).await;
    let store = &world.store;
    assert_current(&world, presented, id).await;

    let update = MachineUpdate {
        name: Some("renamed".to_owned()),
        default_token_ttl: Some(7),
    };
    let updated = store.update_machine(instance, machine.id, update, some_change());
    updated.await.unwrap();
    let token = assert_current(&world, presented, id).await;
    assert_eq!(token.machine.name, "renamed");

    let callee = world.machine(instance, "callee").await;
    let inserted = store.insert_scope(instance, machine.id, callee.id, 150, some_change());
    inserted.await.unwrap();
    let token = assert_current(&world, presented, id).await;
    assert!(token.machine.scopes.contains(&callee.id));
    let deleted = store.delete_machine(instance, callee.id, some_change());
    assert!(deleted.await.unwrap());
    let token = assert_current(&world, presented, id).await;
    assert!(!token.machine.scopes.contains(&callee.id));

    let settings = InstanceSettings {
        max_jwt_ttl: 77,
        ..InstanceSettings::default()
    };
    world.set(instance, settings.clone()).await;
    let token = assert_current(&world, presented, id).await;
    assert_eq!(token.instance.settings, settings);

    let cut_off = store.end_machine_tokens(instance, machine.id, change_at(5));
    let cut_off = cut_off.await.unwrap();
    let token = assert_current(&world, presented, id).await;
    assert_eq!(
        (token.machine.issued_before, token.cut_off_at()),
        (cut_off, cut_off)
    );
    let cut_off = store
        .end_instance_tokens(instance, change_at(50))
        .await
        .unwrap();
    let token = assert_current(&world, presented, id).await;
    assert_eq!(
        (token.instance.issued_before, token.cut_off_at()),
        (cut_off, cut_off)
    );

    world.revoke(instance, id).await;
    let token = assert_current(&world, presented, id).await;
    assert_eq!(token.row.revoked, Some(revocation()));

    let deleted = store.delete_machine(instance, machine.id, some_change());
    assert!(deleted.await.unwrap());
    assert!(verify(&**store, presented, id).await.token.is_none());
}

pub async fn a_verification_shows_the_state_of_the_signing_key(world: World) {
    let (instance, presented, machine) = two_machines(&world).await;
    let next = world.signing_key(instance);
    let (first, second) = (instance.first_signing_key(), next.id);
    let store = &world.store;
    store
        .insert_signing_key(next, 16, some_change())
        .await
        .unwrap();
    let new = NewToken {
        proof: Proof::Jwt(second),
        ..world.new_jwt(&machine)
    };
    let opaque = world.token(&machine).await;
    let old = world.issue(world.new_jwt(&machine)).await;
    let new = world.issue(new).await;
    let states = async || {
        let mut states = Vec::new();
        for id in [opaque, old, new] {
            states.push(assert_current(&world, presented, id).await.signing_key);
        }
        states
    };
    let (active, published) = (SigningKeyState::Active, SigningKeyState::Published);
    assert_eq!(states().await, [None, Some(active), Some(published)]);
    let activated = store.activate_signing_key(instance, second, Cause::Schedule, change_at(1));
    assert!(activated.await.unwrap());
    let verify_only = SigningKeyState::VerifyOnly;
    assert_eq!(states().await, [None, Some(verify_only), Some(active)]);
    let deleted = store.delete_signing_key(instance, first, None, change_at(2));
    assert!(deleted.await.unwrap());
    assert_eq!(states().await, [None, None, Some(active)]);
}

pub async fn a_verification_reflects_every_acknowledged_record(world: World) {
    let (instance, presented, machine) = two_machines(&world).await;
    let (_, other, _) = two_machines(&world).await;
    let id = world.token(&machine).await;
    let begin = world.changes(instance).await.len() as u64;
    let others_position = verify(&*world.store, other, id).await.position;
    let mut tasks = Vec::new();
    for _ in 0..40 {
        let (store, new) = (Arc::clone(&world.store), world.new_machine(instance, "a"));
        tasks.push(tokio::spawn(async move {
            let machine_id = new.id.to_string();
            store.insert_machine(new, some_change()).await.unwrap();
            let position = verify(&*store, presented, id).await.position;
            (machine_id, position)
        }));
    }
    let mut positions = Vec::new();
    for task in tasks {
        positions.push(task.await.unwrap());
    }
    let changes = world.changes(instance).await;
    for (machine_id, position) in positions {
        let own = changes.iter().find(|change| change.subject == machine_id);
        let own = own.unwrap().sequence;
        assert!(position >= own, "{position} {own}");
        assert!(position <= begin + 40, "it names records that do not exist");
    }
    // What the position names is in the answer, and so is what is read after it.
    for round in 0..20 {
        let update = MachineUpdate {
            default_token_ttl: Some(round),
            ..MachineUpdate::default()
        };
        let updated = world
            .store
            .update_machine(instance, machine.id, update, some_change());
        updated.await.unwrap();
        let verification = verify(&*world.store, presented, id).await;
        let head = world.changes(instance).await.len() as u64;
        assert_eq!(verification.position, head);
        let token = verification.token.unwrap();
        assert_eq!(token.machine.default_token_ttl, round);
    }
    // Each log has its own positions.
    let position = verify(&*world.store, other, id).await.position;
    assert_eq!(position, others_position);
    let world = world.reopen().await;
    let position = verify(&*world.store, presented, id).await.position;
    assert_eq!(position, begin + 60);
}
