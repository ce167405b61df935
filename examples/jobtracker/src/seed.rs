//! What a new database holds: three users, an application in each status, and a résumé for each, as PDF.

use rusqlite::{Connection, params};

/// Id, name, email.
const USERS: &[(&str, &str, &str)] = &[
    ("user_ada", "Ada Lovelace", "ada@example.com"),
    ("user_grace", "Grace Hopper", "grace@example.com"),
    ("user_alan", "Alan Turing", "alan@example.com"),
];

/// Id, user, company, position, status, when it was queued, when it was submitted.
type ApplicationRow = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    Option<&'static str>,
);

#[rustfmt::skip]
const APPLICATIONS: &[ApplicationRow] = &[
    ("app_1001", "user_ada", "Analytical Engines", "Programmer", "queued", "2026-05-04T09:30:00Z", None),
    ("app_1002", "user_grace", "Flow-Matic", "Compiler Engineer", "queued", "2026-05-05T14:10:00Z", None),
    ("app_1003", "user_ada", "Difference & Sons", "Mathematician", "submitted", "2026-04-20T08:00:00Z", Some("2026-04-21T10:15:00Z")),
    ("app_1004", "user_grace", "Harvard Mark", "Systems Analyst", "interviewing", "2026-04-02T11:45:00Z", Some("2026-04-02T12:00:00Z")),
    ("app_1005", "user_alan", "Bombe Works", "Cryptanalyst", "offered", "2026-03-12T16:20:00Z", Some("2026-03-13T07:30:00Z")),
    ("app_1006", "user_alan", "Imitation Games", "Researcher", "rejected", "2026-03-01T10:00:00Z", Some("2026-03-01T10:05:00Z")),
    ("app_1007", "user_grace", "Nanoseconds", "Lecturer", "withdrawn", "2026-02-14T13:00:00Z", None),
];

/// Fills a database that is empty.
pub(crate) fn fill(connection: &Connection) -> rusqlite::Result<()> {
    for user in USERS {
        connection.execute(
            "INSERT INTO users (id, name, email) VALUES (?1, ?2, ?3)",
            *user,
        )?;
    }
    for application in APPLICATIONS {
        connection.execute(
            "INSERT INTO applications (id, user_id, company, position, status, queued_at, submitted_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            *application,
        )?;
        let (id, user_id, company, position, ..) = *application;
        let user = USERS.iter().find(|(known, ..)| *known == user_id);
        let (_, name, email) = *user.expect("each seeded application has a seeded user");
        let content = pdf(&[
            name,
            email,
            &format!("Wants to work as {position} for {company}."),
        ]);
        let file_name = format!("{}.pdf", name.to_lowercase().replace(' ', "-"));
        connection.execute(
            "INSERT INTO resumes (application_id, file_name, content_type, content) VALUES (?1, ?2, 'application/pdf', ?3)",
            params![id, file_name, content],
        )?;
    }
    Ok(())
}

/// A PDF of one page with these lines of ASCII.
fn pdf(lines: &[&str]) -> Vec<u8> {
    let mut text = "BT /F1 16 Tf 72 770 Td 24 TL".to_owned();
    for line in lines {
        let line = line
            .replace('\\', r"\\")
            .replace('(', r"\(")
            .replace(')', r"\)");
        text.push_str(&format!(" ({line}) Tj T*"));
    }
    text.push_str(" ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>".to_owned(),
        format!("<< /Length {} >>\nstream\n{text}\nendstream", text.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut places = "0000000000 65535 f \n".to_owned();
    for (index, object) in objects.iter().enumerate() {
        places.push_str(&format!("{:010} 00000 n \n", file.len()));
        file.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    let (size, start) = (objects.len() + 1, file.len());
    file.push_str(&format!(
        "xref\n0 {size}\n{places}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    ));
    file.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_at_the_end_of_a_pdf_names_where_each_object_begins() {
        let file = String::from_utf8(pdf(&["Ada (Lovelace)"])).unwrap();
        let (_, start) = file.split_once("startxref\n").unwrap();
        let start: usize = start.lines().next().unwrap().parse().unwrap();
        let table = file[start..].lines().skip(3).take(5);
        for (index, line) in table.enumerate() {
            let place: usize = line[..10].parse().unwrap();
            assert!(file[place..].starts_with(&format!("{} 0 obj", index + 1)));
        }
        assert!(file.contains(r"(Ada \(Lovelace\)) Tj"));
    }
}
