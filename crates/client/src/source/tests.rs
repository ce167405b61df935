//! The source on a clock that tests move, with an authority that answers when told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_protocol::error::{ErrorCode, ErrorEnvelope, ErrorItem};
use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::advance;

use super::builder::renewed;
use super::ready_made::{Warning, end_of_jwt};
use super::*;
use crate::Token;
use crate::environment::Environment;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn issued_for_an_hour(number: usize) -> IssuedToken {
    issued(number, Some(HOUR))
}

/// An authority that counts, answers by a script, and where told waits before it answers.
#[derive(Clone, Default)]
struct Script(Arc<Scripted>);

#[derive(Default)]
struct Scripted {
    asked: AtomicUsize,
    forced: AtomicUsize,
    answers: Mutex<VecDeque<Result<Option<Duration>, Error>>>,
    gate: Option<Notify>,
}

impl Script {
    fn answering(answers: impl IntoIterator<Item = Result<Option<Duration>, Error>>) -> Self {
        let script = Self::default();
        script.0.answers.lock().unwrap().extend(answers);
        script
    }

    /// Answers only when `open` is called, once for each answer.
    fn behind_a_gate() -> Self {
        Self(Arc::new(Scripted {
            gate: Some(Notify::new()),
            ..Scripted::default()
        }))
    }

    fn open(&self) {
        self.0.gate.as_ref().expect("there is a gate").notify_one();
    }

    fn source(&self) -> TokenSource {
        renewed(Box::new(self.clone()), Duration::from_secs(300), || 0.5)
    }

    fn asked(&self) -> usize {
        self.0.asked.load(Ordering::SeqCst)
    }
}

impl Issue for Script {
    fn address(&self) -> &'static str {
        "https://auth.example.com"
    }

    fn issue(&self, is_forced: bool) -> Issuing<'_> {
        Box::pin(async move {
            let number = self.0.asked.fetch_add(1, Ordering::SeqCst);
            self.0
                .forced
                .fetch_add(usize::from(is_forced), Ordering::SeqCst);
            if let Some(gate) = &self.0.gate {
                gate.notified().await;
            }
            let answer = self.0.answers.lock().unwrap().pop_front();
            answer
                .unwrap_or(Ok(Some(HOUR)))
                .map(|left| issued(number, left))
        })
    }
}

fn issued(number: usize, time_left: Option<Duration>) -> IssuedToken {
    IssuedToken {
        token: Token {
            id: format!("mt_{number:032x}").parse().expect("an id"),
            subject: "mch_2vYVtestTESTtestTESTtestTES".parse().expect("an id"),
            scopes: Vec::new(),
            claims: None,
            is_revoked: false,
            revocation_reason: None,
            is_expired: false,
            expires_at: time_left.map(|left| UNIX_EPOCH + left),
            last_used_at: None,
            created_at: UNIX_EPOCH,
            updated_at: UNIX_EPOCH,
        },
        string: TokenString::new(format!("mt_{number}")).expect("one word"),
        time_left,
    }
}

fn unreachable() -> Error {
    Error::Unreachable {
        address: "http://127.0.0.1:1".to_owned(),
        reason: "connection refused".to_owned(),
        status: None,
    }
}

fn overloaded(retry_after: Duration) -> Error {
    let envelope = serde_json::json!({ "errors": [ErrorItem::new(ErrorCode::TooManyRequests)] });
    let envelope: ErrorEnvelope = serde_json::from_value(envelope).expect("an envelope");
    let refusal = crate::Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        envelope,
        None,
        Some(retry_after),
    );
    Error::Refused(refusal.expect("it has an error"))
}

/// Lets every task run that can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

async fn text(source: &TokenSource) -> String {
    source.token().await.expect("a token").expose().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_made_on_first_use_and_kept_until_it_is_due() {
    let script = Script::default();
    let source = script.source();
    settle().await;
    assert_eq!(script.asked(), 0);
    assert_eq!(text(&source).await, "mt_0");
    advance(HOUR - Duration::from_secs(301)).await;
    assert_eq!(text(&source).await, "mt_0");
    settle().await;
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_due_stays_in_use_while_it_is_renewed() {
    let script = Script::behind_a_gate();
    let source = script.source();
    script.open();
    assert_eq!(text(&source).await, "mt_0");
    advance(HOUR - Duration::from_secs(300)).await;
    for _ in 0..10 {
        assert_eq!(text(&source).await, "mt_0");
        settle().await;
    }
    assert_eq!(script.asked(), 2);
    script.open();
    settle().await;
    assert_eq!(text(&source).await, "mt_1");
}

#[tokio::test(start_paused = true)]
async fn a_short_token_is_renewed_when_four_fifths_of_its_life_are_over() {
    let script = Script::answering([Ok(Some(10 * SECOND))]);
    let source = script.source();
    assert_eq!(text(&source).await, "mt_0");
    advance(Duration::from_millis(7999)).await;
    assert_eq!(text(&source).await, "mt_0");
    settle().await;
    assert_eq!(script.asked(), 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(text(&source).await, "mt_0");
    settle().await;
    assert_eq!(text(&source).await, "mt_1");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_never_ends_is_never_renewed() {
    let script = Script::answering([Ok(None)]);
    let source = script.source();
    assert_eq!(text(&source).await, "mt_0");
    advance(HOUR * 24 * 365 * 10).await;
    assert_eq!(text(&source).await, "mt_0");
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_on_a_cold_source_make_one_token() {
    let script = Script::behind_a_gate();
    let source = script.source();
    let calls: Vec<_> = (0..1000)
        .map(|_| {
            let source = source.clone();
            tokio::spawn(async move { text(&source).await })
        })
        .collect();
    settle().await;
    script.open();
    for call in calls {
        assert_eq!(call.await.expect("no panic"), "mt_0");
    }
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_takes_nobody_along() {
    let script = Script::behind_a_gate();
    let source = script.source();
    let first = tokio::spawn({
        let source = source.clone();
        async move { text(&source).await }
    });
    settle().await;
    let second = tokio::spawn({
        let source = source.clone();
        async move { text(&source).await }
    });
    settle().await;
    first.abort();
    settle().await;
    script.open();
    assert_eq!(second.await.expect("no panic"), "mt_0");
    assert_eq!(script.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_keeps_a_living_token_in_use_until_its_end() {
    let failures = std::iter::repeat_with(|| Err(unreachable())).take(1000);
    let script = Script::answering(std::iter::once(Ok(Some(HOUR))).chain(failures));
    let source = script.source();
    assert_eq!(text(&source).await, "mt_0");
    advance(HOUR - Duration::from_secs(300)).await;
    for _ in 0..299 {
        assert_eq!(text(&source).await, "mt_0");
        settle().await;
        advance(SECOND).await;
    }
    // With half of each longest pause: 0.125 s, 0.25 s … 15 s. Asked each second, about 26 times.
    assert!((20..35).contains(&script.asked()), "{}", script.asked());
    advance(SECOND).await;
    settle().await;
    assert!(matches!(
        source.token().await,
        Err(Error::Unreachable { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_cannot_get_a_token_asks_at_most_twice_a_minute() {
    let failures = std::iter::repeat_with(|| Err(unreachable())).take(100_000);
    let script = Script::answering(failures);
    let source = renewed(Box::new(script.clone()), Duration::from_secs(300), || 1.0);
    for _ in 0..6000 {
        assert!(source.token().await.is_err());
        advance(Duration::from_millis(100)).await;
    }
    // After pauses of 0.25, 0.5, 1, 2, 4, 8 and 16 s eight attempts are over in 32 s; then one each 30 s.
    assert_eq!(script.asked(), 8 + 18);
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_says_when_to_come_back_is_believed_for_half_a_minute_at_most() {
    let answers = [20, 100_000].map(|seconds| Err(overloaded(seconds * SECOND)));
    let script = Script::answering(answers);
    let source = script.source();
    assert!(source.token().await.is_err());
    advance(Duration::from_millis(19_900)).await;
    assert!(source.token().await.is_err());
    assert_eq!(script.asked(), 1);
    advance(Duration::from_millis(200)).await;
    assert!(source.token().await.is_err());
    assert_eq!(script.asked(), 2);
    advance(Duration::from_secs(31)).await;
    assert_eq!(text(&source).await, "mt_2");
}

#[tokio::test(start_paused = true)]
async fn after_a_401_one_other_token_is_made_for_all_who_were_refused() {
    let script = Script::default();
    let source = script.source();
    let refused = source.token().await.expect("a token");
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (source, refused) = (source.clone(), refused.clone());
            tokio::spawn(async move { source.replacement(&refused).await })
        })
        .collect();
    for call in calls {
        let other = call.await.expect("no panic").expect("good").expect("one");
        assert_eq!(other.expose(), "mt_1");
    }
    assert_eq!(script.asked(), 2);
    assert_eq!(script.0.forced.load(Ordering::SeqCst), 1);
    assert_eq!(text(&source).await, "mt_1");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_replaced_at_most_each_ten_seconds() {
    let script = Script::default();
    let source = script.source();
    let first = source.token().await.expect("a token");
    let second = source
        .replacement(&first)
        .await
        .expect("good")
        .expect("one");
    advance(Duration::from_millis(9_900)).await;
    assert_eq!(source.replacement(&second).await.expect("good"), None);
    // The one that was refused stays: to drop it would make a new one for the next call.
    assert_eq!(source.token().await.expect("a token"), second);
    assert_eq!(script.asked(), 2);
    advance(Duration::from_millis(200)).await;
    let third = source
        .replacement(&second)
        .await
        .expect("good")
        .expect("one");
    assert_eq!(third.expose(), "mt_2");
}

#[tokio::test(start_paused = true)]
async fn a_401_for_an_older_token_is_answered_with_the_one_at_hand() {
    let script = Script::default();
    let source = script.source();
    let first = source.token().await.expect("a token");
    let second = source
        .replacement(&first)
        .await
        .expect("good")
        .expect("one");
    advance(60 * SECOND).await;
    let again = source
        .replacement(&first)
        .await
        .expect("good")
        .expect("one");
    assert_eq!(again, second);
    assert_eq!(script.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_attempts_pause_a_401_makes_no_further_one() {
    let script = Script::answering([Ok(Some(HOUR)), Err(overloaded(20 * SECOND))]);
    let source = script.source();
    let first = source.token().await.expect("a token");
    advance(HOUR - Duration::from_secs(300)).await;
    assert_eq!(source.token().await.expect("a token"), first);
    settle().await;
    assert_eq!(source.replacement(&first).await.expect("good"), None);
    assert_eq!(script.asked(), 2);
    assert_eq!(source.token().await.expect("a token"), first);
}

#[test]
fn an_attempt_that_ends_with_its_runtime_lets_the_next_one_begin() {
    let script = Script::behind_a_gate();
    let source = script.source();
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
    };
    let first = runtime();
    let source_of_first = source.clone();
    first.block_on(async move {
        tokio::spawn(async move { source_of_first.token().await });
        settle().await;
    });
    drop(first);
    script.open();
    script.open();
    assert_eq!(runtime().block_on(text(&source)), "mt_1");
}

#[tokio::test(start_paused = true)]
async fn a_ready_made_token_is_presented_and_never_replaced() {
    let token = TokenString::new("mt_ready").expect("one word");
    let source = TokenSource::ready_made(token.clone(), None);
    assert_eq!(text(&source).await, "mt_ready");
    assert_eq!(source.replacement(&token).await.expect("good"), None);
}

#[test]
fn a_ready_made_token_warns_from_thirty_days_before_its_end() {
    let day = Duration::from_secs(24 * 60 * 60);
    let end = UNIX_EPOCH + 365 * day;
    assert_eq!(Warning::at(UNIX_EPOCH, end), None);
    assert_eq!(Warning::at(end - 30 * day - SECOND, end), None);
    assert_eq!(
        Warning::at(end - 30 * day, end),
        Some(Warning::DaysLeft(30))
    );
    assert_eq!(Warning::at(end - SECOND, end), Some(Warning::DaysLeft(0)));
    assert_eq!(Warning::at(end, end), Some(Warning::Over));
}

#[test]
fn the_end_of_a_jwt_is_read_and_of_nothing_else() {
    // {"exp":1700003600}
    let end = UNIX_EPOCH + Duration::from_secs(1_700_003_600);
    assert_eq!(end_of_jwt("e30.eyJleHAiOjE3MDAwMDM2MDB9.c2ln"), Some(end));
    for text in [
        "mt_abc",
        "a.b.c",
        "e30.e30.e30",
        "e30.eyJleHAiOjE3MDAwMDM2MDB9",
        "e30.eyJleHAiOi0xfQ.x",
        "",
    ] {
        assert_eq!(end_of_jwt(text), None::<SystemTime>, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_off_has_no_header() {
    let source = TokenSource::off();
    assert!(source.is_off());
    assert_eq!(source.authorization().await.expect("good"), None);
    assert!(source.token().await.is_ok());
}

#[test]
fn the_environment_is_told_of_all_that_is_missing() {
    let of = |variables: &[(&str, &str)], service| {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        TokenSource::from_environment(&Environment::from_iter(variables), service)
    };
    let missing = of(&[("CLERK_API_URL", " ")], None).expect_err("nothing is set");
    assert_eq!(
        missing.to_string(),
        "not set in the environment: CLERK_API_URL (or CLERK_API_BASE_URL), CLERK_MACHINE_SECRET_KEY"
    );
    let missing = of(&[], Some("my-bot")).expect_err("nothing is set");
    assert_eq!(
        missing.to_string(),
        "not set in the environment: CLERK_API_URL (or CLERK_API_BASE_URL), \
         CLERK_MACHINE_SECRET_KEY_MY_BOT (or CLERK_MACHINE_SECRET_KEY)"
    );
    let address = ("CLERK_API_BASE_URL", "http://127.0.0.1:4840/v1");
    let key = ("CLERK_MACHINE_SECRET_KEY", "ak_some");
    assert!(of(&[address, key], None).is_ok());
    assert!(of(&[address, key], Some("trpc")).is_ok());
    assert!(
        of(
            &[address, ("CLERK_MACHINE_SECRET_KEY_MY_BOT", "ak_x")],
            Some("my-bot")
        )
        .is_ok()
    );
    let ready_made = of(&[("CLERK_M2M_TOKEN_WEBHOOK", "mt_year")], Some("webhook"));
    assert!(matches!(ready_made, Ok(TokenSource(Kind::ReadyMade(_)))));
    let id = format!("mt_{}", "0a".repeat(16));
    for (value, what) in [
        ("ak_some", "a machine key, which no other machine may see"),
        ("sk_test_some", "an instance key, which no machine may see"),
        ("\"mt_year\"", "text with quotation marks"),
        ("mt_ye\nar", "more than one word"),
        (&id, "the id of a token, not the token string"),
    ] {
        let wrong = of(&[("CLERK_M2M_TOKEN_WEBHOOK", value)], Some("webhook"));
        assert_eq!(
            wrong.expect_err(what).to_string(),
            format!(
                "CLERK_M2M_TOKEN_WEBHOOK: expected a token string, which creating a token returns, but this is {what}"
            )
        );
    }
    let wrong = of(&[address, ("CLERK_MACHINE_SECRET_KEY", "mt_token")], None);
    assert_eq!(
        wrong.expect_err("a token is no key").to_string(),
        "CLERK_MACHINE_SECRET_KEY holds no such key: what belongs there begins with ak_"
    );
}

#[test]
fn a_runtime_that_is_gone_leaves_nobody_waiting() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    let source = Script::default().source();
    drop(runtime);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _entered = handle.enter();
        let mut future = Box::pin(async move { source.token().await.is_ok() });
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = future.as_mut().poll(&mut context);
        sender.send(()).unwrap();
    });
    assert!(
        receiver.recv_timeout(Duration::from_secs(5)).is_ok(),
        "deadlock"
    );
}

#[tokio::test(start_paused = true)]
async fn one_401_and_an_authority_that_is_away_do_not_cost_a_token_that_lives() {
    let script = Script::answering([Ok(Some(HOUR)), Err(unreachable())]);
    let source = script.source();
    let token = source.token().await.unwrap();
    assert!(source.replacement(&token).await.is_err());
    assert!(source.token().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_over_when_they_come_are_not_made_without_end() {
    let script = Script::answering((0..100).map(|_| Ok(Some(Duration::ZERO))));
    let source = script.source();
    for _ in 0..50 {
        let _ = source.token().await;
    }
    assert!(script.asked() < 5, "{} tokens", script.asked());
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_life_ends_on_the_way_is_none() {
    let script = Script::behind_a_gate();
    let answer = Ok(Some(Duration::from_secs(5)));
    script.0.answers.lock().unwrap().push_back(answer);
    let source = script.source();
    let waiting = tokio::spawn({
        let source = source.clone();
        async move { source.token().await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    script.open();
    let error = waiting.await.unwrap().expect_err("it is over");
    assert!(
        error.to_string().contains("was over when it came"),
        "{error}"
    );
    assert!(source.token().await.is_err(), "the next attempt waits");
    assert_eq!(script.asked(), 1);
}

#[test]
fn settings_in_each_others_place_show_no_key() {
    for (address, key) in [
        ("ak_hidden", "https://auth.example.com"),
        ("admin:hidden@auth.example.com", "ak_x"),
        ("https://auth.example.com?key=hidden", "ak_x"),
    ] {
        let error = crate::Client::new(address, key).expect_err("refused");
        assert!(!format!("{error} {error:?}").contains("hidden"), "{error}");
    }
}

#[test]
fn no_password_of_an_address_is_shown() {
    let builder = crate::Client::builder("https://user:hidden@a.example", "ak_x");
    assert!(!format!("{builder:?}").contains("hidden"));
}

#[test]
fn no_password_of_a_document_is_shown() {
    let document = crate::PublicDocument::new("https://user:hidden@a.example/jwks", 10);
    assert!(document.is_err() || !document.unwrap().url().contains("hidden"));
}
