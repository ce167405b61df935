//! Ending all tokens of a machine or of an instance: those from before are refused as revoked, and those from right after are
//! good, whatever the clock does.

use countersign_authority::{Error, Refusal};
use countersign_protocol::body::M2mToken;
use countersign_protocol::ids::MachineId;
use countersign_protocol::time::Timestamp;

use crate::support::faulty::Fault;
use crate::support::sources::{MINUTE, SECOND, START};
use crate::support::{
    Story, claiming, jwt, lasting, opaque, payload_of, pooled, refusal_of, string_of,
};

const REVOKED: Option<(Refusal, bool)> = Some((Refusal::Revoked, true));
const NOT_IN_SCOPE: Option<(Refusal, bool)> = Some((Refusal::NotInScope, false));

impl Story {
    /// Ends all tokens of a machine, or of the first instance.
    async fn end(&self, machine: Option<MachineId>) -> Timestamp {
        let owner = self.actor(&self.home).await;
        self.authority.end_tokens(&owner, machine).await.unwrap()
    }

    /// An opaque token and a JWT of the sender, with their bodies.
    async fn pair(&self) -> [(String, M2mToken); 2] {
        let mut pair = Vec::new();
        for request in [opaque(), jwt()] {
            let issued = self.issue(&self.sender, request).await.unwrap();
            pair.push((string_of(&issued).to_owned(), issued.body));
        }
        pair.try_into().unwrap()
    }

    /// A token is refused as revoked by everybody who may know about it.
    async fn assert_ended(&self, token: &str) {
        for key in [&self.home, &self.receiver.key] {
            assert_eq!(self.refusal(key, token).await, REVOKED);
        }
        assert_eq!(self.refusal(&self.sender.key, token).await, NOT_IN_SCOPE);
        assert_eq!(refusal_of(self.own_token(token).await), REVOKED);
    }

    /// A token that was issued after the cut-off is good, and carries a time that receivers accept, too.
    async fn assert_good(&self, (token, body): &(String, M2mToken), cut_off: Timestamp) {
        for key in [&self.home, &self.receiver.key] {
            assert_eq!(self.refusal(key, token).await, None);
        }
        assert!(body.created_at >= cut_off, "{body:?} {cut_off}");
        if !token.starts_with("mt_") {
            let issued_at = payload_of(token)["iat"].as_i64().unwrap() * SECOND;
            assert!(issued_at >= cut_off.as_millis());
            self.assert_created(token, body, issued_at).await;
        }
    }

    /// Every answer about a token says when it was created.
    async fn assert_created(&self, token: &str, issued: &M2mToken, millis: i64) {
        let owner = self.actor(&self.home).await;
        let verified = self.verify(&self.receiver.key, token).await.unwrap();
        let own = self.own_token(token).await.unwrap();
        let listed = self.all_tokens(&owner, issued.subject).await.m2m_tokens;
        let listed = listed.into_iter().find(|listed| listed.id == issued.id);
        for body in [issued, &verified, &own, &listed.unwrap()] {
            assert_eq!(body.created_at.as_millis(), millis, "{body:?}");
        }
    }
}

/// What is ended one after the other, in the same millisecond. `true` stands for the machine.
const ORDERS: [&[bool]; 6] = [
    &[true],
    &[false],
    &[true, true, true],
    &[false, false, false],
    &[true, true, false, true],
    &[false, false, true, false],
];

#[tokio::test]
async fn tokens_from_before_end_and_tokens_from_right_after_are_good_while_the_clock_stands_still()
{
    let story = Story::new().await;
    // The beginning, the middle and the last millisecond of a second.
    for millis in [0, 600, 999] {
        for order in ORDERS {
            story.clock.advance(MINUTE + millis);
            let mut before = story.pair().await;
            let mut last = None;
            for is_of_machine in order {
                let cut_off = story.end(is_of_machine.then_some(story.sender.id)).await;
                assert!(Some(cut_off) > last, "{order:?}");
                assert!(cut_off > story.authority.now());
                last = Some(cut_off);
                for (token, _) in &before {
                    story.assert_ended(token).await;
                }
                let after = story.pair().await;
                for token in &after {
                    story.assert_good(token, cut_off).await;
                }
                before = after;
            }
            story.clock.advance(SECOND - millis);
        }
    }
}

#[tokio::test]
async fn a_jwt_shows_the_second_of_its_iat_wherever_it_is_shown() {
    let story = Story::new().await;
    let owner = story.actor(&story.home).await;
    let issued_at = |token: &str| payload_of(token)["iat"].as_i64().unwrap() * SECOND;
    story.clock.advance(1_600);
    let [_, (token, body)] = story.pair().await;
    assert_eq!(issued_at(&token), START + SECOND);
    story.assert_created(&token, &body, START + SECOND).await;
    // In the second of a cut-off the time is rounded up.
    story.end(Some(story.sender.id)).await;
    let [_, (token, body)] = story.pair().await;
    assert_eq!(issued_at(&token), START + 2 * SECOND);
    story
        .assert_created(&token, &body, START + 2 * SECOND)
        .await;
    let revoked = story.authority.revoke(&owner, body.id, None).await.unwrap();
    assert_eq!(revoked.created_at.as_millis(), START + 2 * SECOND);
    assert!(revoked.updated_at >= revoked.created_at);
    // Not in a later second.
    story.clock.advance(SECOND);
    let [_, (token, body)] = story.pair().await;
    assert_eq!(issued_at(&token), START + 2 * SECOND);
    story
        .assert_created(&token, &body, START + 2 * SECOND)
        .await;
}

#[tokio::test]
async fn only_the_tokens_that_are_meant_end() {
    let story = Story::new().await;
    let neighbor = story
        .machine(&story.home, "neighbor", &[&story.receiver])
        .await;
    let mut neighbors = Vec::new();
    let mut strangers = Vec::new();
    for request in [opaque(), jwt()] {
        neighbors.push(story.token(&neighbor, request.clone()).await.0);
        strangers.push(story.token(&story.stranger, request).await.0);
    }
    story.end(Some(story.sender.id)).await;
    for token in &neighbors {
        assert!(story.verify(&story.receiver.key, token).await.is_ok());
    }
    story.end(None).await;
    for token in &neighbors {
        assert_eq!(story.refusal(&story.receiver.key, token).await, REVOKED);
    }
    for token in &strangers {
        assert!(story.verify(&story.abroad, token).await.is_ok());
    }
    let owner = story.actor(&story.home).await;
    let refused = story
        .authority
        .end_tokens(&owner, Some(story.stranger.id))
        .await;
    assert!(matches!(
        refused,
        Err(Error::NotFound {
            noun: "machine",
            ..
        })
    ));
}

#[tokio::test]
async fn ended_tokens_are_listed_as_revoked_and_not_changed_and_not_handed_out_again() {
    for is_of_machine in [true, false] {
        let story = Story::new().await;
        let owner = story.actor(&story.home).await;
        let (_, before) = story.token(&story.sender, pooled(60)).await;
        let cut_off = story.end(is_of_machine.then_some(story.sender.id)).await;
        let listed = story.all_tokens(&owner, story.sender.id).await;
        let [ended] = &listed.m2m_tokens[..] else {
            panic!("{listed:?}")
        };
        assert!(ended.revoked && !ended.expired);
        assert_eq!(
            (ended.updated_at, ended.revocation_reason.as_deref()),
            (cut_off, None)
        );
        let live = countersign_authority::ListTokens {
            revoked: false,
            ..crate::support::all_of(story.sender.id)
        };
        let listed = story.authority.list_tokens(&owner, live).await.unwrap();
        assert_eq!(listed.total_count, 0);
        let update = countersign_authority::UpdateRequest {
            claims: Some(None),
            ..countersign_authority::UpdateRequest::default()
        };
        let refused = story.authority.update_token(&owner, before, update).await;
        assert!(matches!(refused, Err(Error::NotChangeable(_))));
        let reason = Some("why".into());
        let revoked = story.authority.revoke(&owner, before, reason).await;
        assert_eq!(revoked.unwrap().revocation_reason.as_deref(), Some("why"));
        let next = story.issue(&story.sender, pooled(60)).await.unwrap();
        assert!(!next.is_reused && next.body.id != before);
        let again = story.issue(&story.sender, pooled(60)).await.unwrap();
        assert!(again.is_reused && again.body.id == next.body.id);
    }
}

#[tokio::test]
async fn a_token_that_was_being_issued_before_the_cut_off_does_not_survive_it() {
    for is_of_machine in [true, false] {
        for request in [opaque(), jwt(), pooled(60)] {
            let story = Story::new().await;
            let owner = story.actor(&story.home).await;
            story.clock.advance(600);
            story.store.fail_all("insert_token", Fault::Wait);
            let issuing = {
                let (authority, actor) = (
                    story.authority.clone(),
                    story.actor(&story.sender.key).await,
                );
                let request = claiming(r#"{"a":1}"#, request);
                tokio::spawn(async move { authority.issue(&actor, &request).await })
            };
            story.until_waiting(1).await;
            let cut_off = story.end(is_of_machine.then_some(story.sender.id)).await;
            story.store.heal();
            // The token from before was refused by the store. The answer is one that was made afterwards.
            let issued = issuing.await.unwrap().unwrap();
            let token = (string_of(&issued).to_owned(), issued.body);
            story.assert_good(&token, cut_off).await;
            let listed = story.all_tokens(&owner, story.sender.id).await;
            let ids: Vec<_> = listed.m2m_tokens.iter().map(|token| token.id).collect();
            assert_eq!(ids, [token.1.id]);
        }
    }
}

#[tokio::test]
async fn a_cut_off_survives_a_restart_with_an_old_clock() {
    let story = Story::new().await;
    let before = story.pair().await;
    let cut_off = story.end(Some(story.sender.id)).await;
    story.clock.step_wall(-MINUTE);
    let story = Story {
        world: story.world.restart().await,
        ..story
    };
    for (token, _) in &before {
        story.assert_ended(token).await;
    }
    for token in &story.pair().await {
        // To this clock the token comes from the future.
        assert!(token.1.created_at >= cut_off);
    }
    story.clock.advance(MINUTE);
    for token in &story.pair().await {
        story.assert_good(token, cut_off).await;
    }
}

#[tokio::test]
async fn an_expired_token_that_was_ended_counts_as_revoked() {
    let story = Story::new().await;
    for request in [opaque(), jwt()] {
        let (token, _) = story.token(&story.sender, lasting(1.0, request)).await;
        story.clock.advance(MINUTE);
        assert_eq!(
            story.refusal(&story.home, &token).await,
            Some((Refusal::Expired, true))
        );
        story.end(Some(story.sender.id)).await;
        assert_eq!(story.refusal(&story.home, &token).await, REVOKED);
    }
}

#[tokio::test]
async fn an_actor_that_may_not_end_tokens_ends_none() {
    let story = Story::new().await;
    let pair = story.pair().await;
    let owner = story.actor(&story.home).await;
    let authority = &story.authority;
    let key = authority.create_instance_key(&owner, false).await.unwrap();
    let ended = story.actor(key.key.expose()).await;
    let revoked = authority.revoke_instance_key(&owner, key.info.id.as_str());
    revoked.await.unwrap();
    let machine = story.actor(&story.sender.key).await;
    for target in [Some(story.sender.id), None] {
        for actor in [&ended, &machine] {
            let refused = authority.end_tokens(actor, target).await;
            assert!(matches!(refused, Err(Error::InstanceKeyInvalid)));
        }
    }
    for operation in ["end_machine_tokens", "end_instance_tokens"] {
        story.store.fail_all(operation, Fault::Before);
    }
    for target in [Some(story.sender.id), None] {
        let refused = authority.end_tokens(&owner, target).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))));
    }
    story.store.heal();
    for (token, _) in &pair {
        assert!(story.verify(&story.receiver.key, token).await.is_ok());
    }
    // The operator may.
    let operator = story.operator_for(&story.home).await;
    authority.end_tokens(&operator, None).await.unwrap();
    for (token, _) in &pair {
        story.assert_ended(token).await;
    }
}
