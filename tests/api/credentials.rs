//! The proxy says who it is, also when that changes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::ensure;
use portolan_apiserver::{Authentication, Credential, Credentials, Options, Resource};

use crate::scene::{RECOVERY, SOON, Scene};

fn tokens(tokens: &[&str]) -> Authentication {
    Authentication::Tokens(tokens.iter().map(|&token| token.to_owned()).collect())
}

pub(crate) fn rotating_token() -> anyhow::Result<()> {
    let scene = Scene::with(Options { authentication: tokens(&["first"]), ..Options::default() })?;
    scene.service(1, &["a"])?;
    let path = scene.file("token");
    // A line, as editors write it.
    fs::write(&path, "first\n")?;
    let _proxy = scene.start_as(&Credentials::TokenFile(path.clone()))?;
    scene.answered_by(1, "a")?;
    // The old one ends at once, before the proxy has a reason to look.
    fs::write(&path, "second")?;
    scene.server.authenticate(tokens(&["second"]));
    scene.server.cut();
    scene.endpoints(1, &["b"])?;
    scene.becomes(1, "b", RECOVERY)?;
    let second = Credential::Token("second".to_owned());
    scene.server_sees("a watch with the second token", SOON, |state| {
        let requests = state.requests().iter();
        requests
            .filter(|request| request.resource == Some(Resource::EndpointSlices))
            .any(|request| request.credential == second && request.code == Some(200))
    })
}

pub(crate) fn client_certificate() -> anyhow::Result<()> {
    let scene =
        Scene::with(Options { authentication: Authentication::ClientCertificate, ..Options::default() })?;
    scene.service(1, &["a"])?;
    let _proxy = scene.start_as(&Credentials::ClientCertificate)?;
    scene.answered_by(1, "a")
}

pub(crate) fn exec_plugin() -> anyhow::Result<()> {
    let scene = Scene::with(Options { authentication: tokens(&["printed"]), ..Options::default() })?;
    scene.service(1, &["a"])?;
    let program = scene.file("print-token");
    fs::write(
        &program,
        "#!/bin/sh\necho '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\
         \"status\":{\"token\":\"printed\"}}'\n",
    )?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
    let command = program.to_string_lossy().into_owned();
    let _proxy = scene.start_as(&Credentials::Exec { command, args: Vec::new() })?;
    scene.answered_by(1, "a")?;
    let strangers = scene.server.look(|state| {
        state.requests().iter().filter(|request| request.credential == Credential::None).count()
    });
    ensure!(strangers == 0, "{strangers} requests without the token");
    Ok(())
}
