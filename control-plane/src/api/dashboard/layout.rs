//! The page layout: head, navigation, and small components that all pages share.

use maud::{DOCTYPE, Markup, html};

use super::Page;
use crate::access::{Role, trail};

pub(super) fn page(current: Page, events: &str, still: &Markup, live: &Markup) -> Markup {
    document(
        current.title(),
        Some(current),
        &html! {
            (still)
            // The tail page has its own stream.
            @if current != Page::Tail { div class="live" data-events=(events) { (live) } }
        },
    )
}

pub(super) fn document(title: &str, current: Option<Page>, content: &Markup) -> Markup {
    let caller = trail::caller();
    let role = caller.as_ref().map_or(Role::Viewer, |caller| caller.role);
    let header = html! {
        nav aria-label="Pages" {
            @for page in Page::ALL.into_iter().filter(|page| page.is_for(role)) {
                a href=(page.path()) aria-current=[(current == Some(page)).then_some("page")] { (page.name()) }
            }
        }
        span class="link" role="status" {}
        @if let Some(caller) = caller.filter(|caller| caller.token.is_some()) {
            form class="session" method="post" action="/ui/logout" {
                span class="soft" { (caller.name) " · " (caller.role) }
                " "
                button { "Log out" }
            }
        }
    };
    frame(title, role, &header, content)
}

/// A page without navigation, for a client that is not logged in.
pub(super) fn plain(title: &str, content: &Markup) -> Markup {
    frame(title, Role::Viewer, &Markup::default(), content)
}

/// The page's HTML. The style sheet hides the controls that the role may not use. Hiding them is not access control.
fn frame(title: &str, role: Role, header: &Markup, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { (title) " · Weir" }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="stylesheet" href="/ui/style.css";
                link rel="icon" type="image/svg+xml" href="/ui/icon.svg";
                script src="/ui/script.js" defer {}
            }
            body data-role=(role) {
                a class="skip" href="#content" { "To the content" }
                header class="top" {
                    div {
                        a class="brand" href="/" { "weir" span { "." } }
                        (header)
                    }
                }
                main id="content" {
                    h1 { (title) }
                    (content)
                }
            }
        }
    }
}

/// A page that shows an error.
pub(super) fn trouble(says: &str) -> Markup {
    document("That did not work", None, &html! { (problem(says)) p { a href="/" { "To the overview" } } })
}

/// An error message.
pub(super) fn problem(says: &str) -> Markup {
    html! {
        section class="card problem" role="alert" {
            h2 { "This is wrong" }
            p { (says) }
        }
    }
}

/// A placeholder for an empty list, with the next step.
pub(super) fn empty(title: &str, content: &Markup) -> Markup {
    html! {
        section class="card empty" {
            h2 { (title) }
            (content)
        }
    }
}

/// Commands that start a node. The nodes' port accepts the node from any machine, with or without tokens.
pub(super) fn start_a_node() -> Markup {
    html! {
        p { "Nodes carry the traffic. Make a join token, and start a node with it on any machine that reaches this control plane:" }
        p { code { "weir node-tokens create > join-token" } }
        p { code { "data-plane --control-plane https://HOST:8090 --token-file join-token" } }
    }
}

/// A coloured word. The word has the meaning without the colour, too.
pub(super) fn badge(kind: &str, text: &str) -> Markup {
    html! { span class=(format!("badge {kind}")) { (text) } }
}
