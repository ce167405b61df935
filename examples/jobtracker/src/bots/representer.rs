//! CandidateRepresenter answers a candidate's questions from what the API has about an application. It knows nothing else, and
//! says so.

use countersign_client::TokenSource;
use reqwest::Method;

use super::{Api, BotError, json};
use crate::database::Application;
use crate::status::Status;

/// Answers candidates.
#[derive(Clone, Debug)]
pub struct CandidateRepresenter {
    api: Api,
}

impl CandidateRepresenter {
    /// Gets the first token and is ready.
    ///
    /// # Errors
    /// [`BotError::Token`] where there is none.
    pub async fn new(api_url: &str, tokens: TokenSource) -> Result<Self, BotError> {
        let api = Api::connect(api_url, tokens).await?;
        Ok(Self { api })
    }

    /// Answers a question about an application.
    ///
    /// # Errors
    /// Each kind of [`BotError`].
    pub async fn answer(&self, application_id: &str, question: &str) -> Result<String, BotError> {
        let path = format!("/applications/{application_id}");
        let application = json(self.api.send(Method::GET, &path, None).await?).await?;
        Ok(answer(&application, question))
    }
}

/// What a question is about.
#[derive(Clone, Copy)]
enum Topic {
    NextStep,
    Date,
    Company,
    Position,
    Status,
}

/// The words by which a question is recognized. The first row that has one of its words decides.
const WORDS: &[(Topic, &[&str])] = &[
    (Topic::NextStep, &["next"]),
    (Topic::Date, &["when", "date", "day"]),
    (Topic::Company, &["company", "employer", "firm", "where"]),
    (Topic::Position, &["position", "role", "job", "title"]),
    (Topic::Status, &["status", "state", "far", "progress"]),
];

fn answer(application: &Application, question: &str) -> String {
    let question = question.to_lowercase();
    let asked: Vec<_> = question
        .split(|character: char| !character.is_alphanumeric())
        .collect();
    let topic = WORDS
        .iter()
        .find(|(_, words)| words.iter().any(|word| asked.contains(word)));
    let Application {
        company,
        position,
        status,
        ..
    } = application;
    match topic {
        Some((Topic::Status, _)) => format!("Your application at {company} is {status}."),
        Some((Topic::Company, _)) => format!("You applied at {company}."),
        Some((Topic::Position, _)) => format!("You applied for the position of {position}."),
        Some((Topic::Date, _)) => match &application.submitted_at {
            Some(time) => format!("Your application was sent on {}.", day(time)),
            None => format!(
                "Your application has not been sent. It was queued on {}.",
                day(&application.queued_at)
            ),
        },
        Some((Topic::NextStep, _)) => next_step(*status, company),
        None => "I do not know. I can tell you the status of your application, the company, the position, when it was sent, \
             and what comes next."
            .to_owned(),
    }
}

fn next_step(status: Status, company: &str) -> String {
    match status {
        Status::Queued => format!("Next, JobApplier sends your application to {company}."),
        Status::Submitted => format!("Next, {company} reads your application and answers."),
        Status::Interviewing => format!("Next, {company} decides after the interviews."),
        Status::Offered => {
            format!("The next step is yours: {company} waits for your answer to its offer.")
        }
        Status::Rejected => format!("There is no next step: {company} decided for somebody else."),
        Status::Withdrawn => "There is no next step: you withdrew your application.".to_owned(),
    }
}

/// The day of a time such as `2026-05-04T09:30:00Z`.
fn day(time: &str) -> &str {
    time.split_once('T').map_or(time, |(day, _)| day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn application(status: Status) -> Application {
        Application {
            id: "app_1003".to_owned(),
            user_id: "user_ada".to_owned(),
            company: "Difference & Sons".to_owned(),
            position: "Mathematician".to_owned(),
            status,
            queued_at: "2026-04-20T08:00:00Z".to_owned(),
            submitted_at: (status != Status::Queued).then(|| "2026-04-21T10:15:00Z".to_owned()),
        }
    }

    #[test]
    fn each_kind_of_question_is_answered_from_the_application() {
        let application = application(Status::Submitted);
        for (question, expected) in [
            (
                "What is the status?",
                "Your application at Difference & Sons is submitted.",
            ),
            (
                "How far is it?",
                "Your application at Difference & Sons is submitted.",
            ),
            ("Which company was it?", "You applied at Difference & Sons."),
            (
                "For which ROLE?",
                "You applied for the position of Mathematician.",
            ),
            (
                "When did I apply?",
                "Your application was sent on 2026-04-21.",
            ),
            (
                "What happens next?",
                "Next, Difference & Sons reads your application and answers.",
            ),
        ] {
            assert_eq!(answer(&application, question), expected, "{question}");
        }
    }

    #[test]
    fn a_queued_application_has_not_been_sent() {
        let answer = answer(&application(Status::Queued), "When was it sent?");
        assert_eq!(
            answer,
            "Your application has not been sent. It was queued on 2026-04-20."
        );
    }

    #[test]
    fn what_the_data_does_not_say_is_not_made_up() {
        let answer = answer(&application(Status::Offered), "What is my salary?");
        assert!(
            answer.starts_with("I do not know. I can tell you the status"),
            "{answer}"
        );
    }

    #[test]
    fn each_status_has_a_next_step_or_says_that_there_is_none() {
        for status in Status::all() {
            let is_open = !status.next().is_empty();
            let has_step = next_step(status, "Acme").starts_with("Next, ");
            assert_eq!(has_step, is_open, "{status}");
        }
    }
}
