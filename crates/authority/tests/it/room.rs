//! How many tokens a machine may have: never fewer than the limit, and no more than it gets in a minute beyond.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_authority::{AuthorityOptions, Error, IssueRequest};
use countersign_protocol::ids::TokenId;
use countersign_store::Room;

use crate::support::faulty::Fault;
use crate::support::sources::{DAY, HOUR, MINUTE, SECOND};
use crate::support::{Bot, Story, World, jwt, lasting, opaque, options, pooled};

const LIMIT: u64 = 4;
const LOOK_AGAIN: i64 = 10 * SECOND;

impl Story {
    /// A story in which machines may have [`LIMIT`] tokens.
    async fn narrow() -> Self {
        let options = AuthorityOptions {
            max_tokens: LIMIT,
            ..options()
        };
        Self::in_world(World::with_options(options).await).await
    }

    /// Issues a token; `None` where the machine has too many.
    async fn try_issue(&self, bot: &Bot, request: IssueRequest) -> Option<TokenId> {
        match self.issue(bot, request).await {
            Ok(issued) => Some(issued.body.id),
            Err(Error::Conflict(text)) => {
                assert!(text.contains(&format!("holds {LIMIT} tokens")), "{text}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Issues so many tokens, all of which must be issued.
    async fn fill(&self, count: u64, request: IssueRequest) -> Vec<TokenId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let issued = self.try_issue(&self.sender, request.clone()).await;
            ids.push(issued.expect("there is room"));
        }
        ids
    }

    /// Lets a minute pass and looks at the numbers of tokens.
    async fn minute(&self) {
        self.clock.advance(MINUTE);
        self.authority.maintain().await.unwrap();
    }

    /// The number of tokens that the sender has, whatever their state.
    async fn held(&self) -> i64 {
        let owner = self.actor(&self.home).await;
        self.all_tokens(&owner, self.sender.id).await.total_count
    }

    /// Counts the store's answers about the room of a machine.
    fn looks(&self) -> Arc<AtomicU64> {
        let looks = Arc::new(AtomicU64::new(0));
        let spy = Arc::clone(&looks);
        self.store.alter("make_room", move |_: &mut Option<Room>| {
            spy.fetch_add(1, Ordering::SeqCst);
        });
        looks
    }
}

#[tokio::test]
async fn below_the_limit_nothing_is_refused_and_at_the_limit_everything_is() {
    let story = Story::narrow().await;
    for count in 1..LIMIT {
        story.fill(1, opaque()).await;
        story.minute().await;
        assert_eq!(story.held().await, i64::try_from(count).unwrap());
    }
    story.fill(1, jwt()).await;
    story.minute().await;
    for request in [opaque(), jwt(), pooled(60)] {
        assert_eq!(story.try_issue(&story.sender, request).await, None);
    }
    // Others have room of their own.
    for bot in [&story.receiver, &story.stranger] {
        assert!(story.try_issue(bot, opaque()).await.is_some());
    }
    // The operator in the role of the machine is refused as well.
    let owner = story.actor(&story.home).await;
    let operator =
        story
            .authority
            .operator_as_machine(&story.operator, owner.instance_id(), story.sender.id);
    let operator = operator.await.unwrap();
    let refused = story.authority.issue(&operator, &opaque()).await;
    assert!(matches!(refused, Err(Error::Conflict(_))));
    // What is full can still be verified, revoked and listed.
    assert_eq!(story.held().await, 4);
}

#[tokio::test]
async fn beyond_the_limit_goes_only_what_is_issued_before_the_next_count() {
    let story = Story::narrow().await;
    story.fill(3 * LIMIT, opaque()).await;
    story.minute().await;
    for _ in 0..5 {
        assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
        story.minute().await;
    }
    assert_eq!(story.held().await, 12);
    // A machine that was counted below the limit is counted again when it may have reached the limit.
    let story = Story::narrow().await;
    story.fill(LIMIT - 1, opaque()).await;
    story.minute().await;
    let looks = story.looks();
    story.minute().await;
    assert_eq!(
        looks.load(Ordering::SeqCst),
        0,
        "it has issued nothing since"
    );
    story.fill(2, opaque()).await;
    story.minute().await;
    assert!(looks.load(Ordering::SeqCst) > 0);
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    assert_eq!(story.held().await, 5);
}

#[tokio::test]
async fn tokens_that_have_ended_make_room() {
    let story = Story::narrow().await;
    let owner = story.actor(&story.home).await;
    // Expired ones.
    story.fill(LIMIT, lasting(30.0, opaque())).await;
    story.fill(LIMIT, lasting(30.0, jwt())).await;
    story.minute().await;
    assert_eq!(story.held().await, 0);
    // Revoked ones.
    for id in story.fill(LIMIT, opaque()).await {
        story.authority.revoke(&owner, id, None).await.unwrap();
    }
    story.minute().await;
    assert_eq!(story.held().await, 0);
    // Those that were ended together, JWTs included: a single record tells receivers of their end.
    story.fill(2, opaque()).await;
    story.fill(2, jwt()).await;
    story
        .authority
        .end_tokens(&owner, Some(story.sender.id))
        .await
        .unwrap();
    story.fill(2, opaque()).await;
    story.minute().await;
    assert_eq!(story.held().await, 2, "the live ones stay");
    assert!(story.try_issue(&story.sender, opaque()).await.is_some());
}

#[tokio::test]
async fn a_revoked_jwt_makes_no_room_until_receivers_may_forget_it() {
    let story = Story::narrow().await;
    let owner = story.actor(&story.home).await;
    let (token, _) = story.token(&story.sender, lasting(7200.0, jwt())).await;
    let ids = story.fill(LIMIT - 1, lasting(7200.0, jwt())).await;
    let first = story.verify(&story.home, &token).await.unwrap().id;
    for id in ids.into_iter().chain([first]) {
        story.authority.revoke(&owner, id, None).await.unwrap();
    }
    story.minute().await;
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    let kept = 2 * HOUR + 10 * MINUTE;
    story.clock.advance(kept - MINUTE - 1);
    story.authority.maintain().await.unwrap();
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    assert_eq!(story.held().await, 4);
    assert!(story.refusal(&story.home, &token).await.is_some());
    // The last look was a moment ago.
    story.clock.advance(LOOK_AGAIN);
    assert!(story.try_issue(&story.sender, opaque()).await.is_some());
    assert_eq!(story.held().await, 1);
}

#[tokio::test]
async fn a_full_machine_gets_tokens_again_within_ten_seconds_of_room() {
    let story = Story::narrow().await;
    let owner = story.actor(&story.home).await;
    let ids = story.fill(LIMIT, opaque()).await;
    story.minute().await;
    let looks = story.looks();
    story.authority.revoke(&owner, ids[0], None).await.unwrap();
    for _ in 0..100 {
        assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    }
    story.clock.advance(LOOK_AGAIN - 1);
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    assert_eq!(
        looks.load(Ordering::SeqCst),
        0,
        "a full machine costs the store nothing"
    );
    story.clock.advance(1);
    assert!(story.try_issue(&story.sender, opaque()).await.is_some());
    assert!(looks.load(Ordering::SeqCst) > 0);
    // It is full again, which the next count shows.
    story.minute().await;
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    // A look that finds nothing stands for ten seconds.
    story.clock.advance(LOOK_AGAIN);
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    let before = looks.load(Ordering::SeqCst);
    story.authority.revoke(&owner, ids[1], None).await.unwrap();
    story.clock.advance(LOOK_AGAIN - 1);
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    assert_eq!(looks.load(Ordering::SeqCst), before);
    story.clock.advance(1);
    assert!(story.try_issue(&story.sender, opaque()).await.is_some());
    assert_eq!(story.held().await, 4);
}

#[tokio::test]
async fn one_request_of_a_full_machine_looks_and_the_others_are_refused_meanwhile() {
    let story = Story::narrow().await;
    let owner = story.actor(&story.home).await;
    let ids = story.fill(LIMIT, opaque()).await;
    story.minute().await;
    story.authority.revoke(&owner, ids[0], None).await.unwrap();
    story.clock.advance(LOOK_AGAIN);
    story.store.fail_all("make_room", Fault::Wait);
    let mut tasks = Vec::new();
    for _ in 0..20 {
        let (authority, actor) = (
            story.authority.clone(),
            story.actor(&story.sender.key).await,
        );
        tasks.push(tokio::spawn(async move {
            authority.issue(&actor, &opaque()).await.is_ok()
        }));
    }
    story.until_waiting(1).await;
    while tasks.iter().filter(|task| task.is_finished()).count() < 19 {
        tokio::task::yield_now().await;
    }
    assert_eq!(story.store.waiting(), 1);
    story.store.heal();
    let mut issued = 0;
    for task in tasks {
        issued += u32::from(task.await.unwrap());
    }
    assert_eq!(issued, 1);
    assert!(story.try_issue(&story.sender, opaque()).await.is_some());
}

#[tokio::test]
async fn a_count_that_fails_refuses_nothing_and_is_made_up_for() {
    let story = Story::narrow().await;
    let owner = story.actor(&story.home).await;
    let ids = story.fill(LIMIT, opaque()).await;
    // A count that fails is reported, and made up for.
    story.store.fail_all("make_room", Fault::Before);
    story.clock.advance(MINUTE);
    let outcome = story.authority.maintain().await;
    assert!(matches!(outcome, Err(Error::Unavailable(_))));
    story.fill(1, opaque()).await;
    story.store.heal();
    story.minute().await;
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    // While the store cannot say whether there is room, the request fails for that.
    story.clock.advance(LOOK_AGAIN);
    story.store.fail_all("make_room", Fault::Before);
    let refused = story.issue(&story.sender, opaque()).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))));
    story.store.heal();
    for id in ids {
        story.authority.revoke(&owner, id, None).await.unwrap();
    }
    // A look that fails delays the next one, too.
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    story.clock.advance(LOOK_AGAIN);
    assert!(story.try_issue(&story.sender, opaque()).await.is_some());
    // A machine that is gone is refused as one that is gone.
    story.fill(LIMIT, opaque()).await;
    story.minute().await;
    let sender = story.actor(&story.sender.key).await;
    let deleted = story.authority.delete_machine(&owner, story.sender.id);
    deleted.await.unwrap();
    story.minute().await;
    let refused = story.authority.issue(&sender, &opaque()).await;
    assert!(matches!(refused, Err(Error::MachineKeyInvalid)));
}

#[tokio::test]
async fn tokens_from_before_a_restart_count() {
    let story = Story::narrow().await;
    story.fill(LIMIT, lasting(100.0 * 86_400.0, opaque())).await;
    let story = Story {
        world: story.world.restart().await,
        ..story
    };
    // Until the first count after the first token, nobody is refused.
    story.minute().await;
    story.fill(2, opaque()).await;
    story.minute().await;
    assert_eq!(story.try_issue(&story.sender, opaque()).await, None);
    story.clock.advance(DAY);
    story.authority.maintain().await.unwrap();
    assert_eq!(story.held().await, 4, "the two have expired");
}
