//! The description of the API.

use std::collections::BTreeSet;

use reqwest::Method;

use crate::support::World;

#[tokio::test]
async fn the_page_and_each_of_its_files_are_served() {
    let world = World::start().await;
    let fetch = async |path: &str| {
        let response = world
            .request(Method::GET, path, "none")
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response
    };
    let page = fetch("/").await;
    assert_eq!(page.url().path(), "/swagger");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = page.text().await.unwrap();
    for (file, content_type) in [
        ("/swagger/swagger-ui-bundle.js", "text/javascript"),
        ("/swagger/initialize.js", "text/javascript"),
        ("/swagger/swagger-ui.css", "text/css"),
    ] {
        assert!(page.contains(&format!("\"{file}\"")), "{file}");
        assert_eq!(fetch(file).await.headers()["content-type"], content_type);
    }
}

#[tokio::test]
async fn each_operation_that_is_described_wants_a_token_and_can_be_authorised_on_the_page() {
    let world = World::start().await;
    let (status, document) = world.get("/openapi.json", "none").await;
    assert_eq!(status, 200);
    let schemes = &document["components"]["securitySchemes"];
    let mut operations = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for choice in operation["security"].as_array().unwrap() {
                for scheme in choice.as_object().unwrap().keys() {
                    assert_eq!(schemes[scheme]["scheme"], "bearer", "{path}");
                }
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let request = world.request(method, &path.replace("{id}", "app_1001"), "none");
            assert_eq!(request.send().await.unwrap().status(), 401, "{path}");
            operations.insert(operation["operationId"].as_str().unwrap().to_owned());
        }
    }
    let expected = [
        "downloadResume",
        "getApplication",
        "getUser",
        "takeApplication",
        "updateStatus",
    ];
    assert_eq!(operations, expected.map(str::to_owned).into());
}

#[tokio::test]
async fn each_reference_of_the_document_leads_somewhere() {
    let world = World::start().await;
    let (_, document) = world.get("/openapi.json", "none").await;
    let text = document.to_string();
    let references: Vec<_> = text.split("\"$ref\":\"#").skip(1).collect();
    assert!(references.len() > 10);
    for reference in references {
        let (pointer, _) = reference.split_once('"').unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
}
