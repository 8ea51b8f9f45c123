//! These tests prove that the simulator's token endpoint serves every grant, refuses bad requests, and fails as
//! configured.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use packetboat::config::{Config, Roots};
use packetboat::crypto::{SigningKey, VerifyingKey, sha256};
use packetboat::simulator::ClientCertificate;
use packetboat::simulator::quirks::{Fault, Poll};
use packetboat::transport::http::{Client, Request, encode};
use serde_json::{Value, json};

use super::scene::*;

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
const BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[test]
fn client_credentials_with_a_secret() {
    let scene = Scene::new();
    let token = scene.app_token();
    let claims: Value = serde_json::from_slice(&BASE64URL.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(claims["appid"], APP);
    assert_eq!(claims["aud"], "https://outlook.office365.com");
    let ask = |secret: &str, scope: &str| {
        let grant = ("grant_type", "client_credentials");
        refusal(scene.token(&[grant, ("client_secret", secret), ("scope", scope)]))
    };
    assert_eq!(ask("wrong", APP_SCOPE), (401, "invalid_client".to_owned(), 7_000_215));
    assert_eq!(ask(SECRET, SCOPE), (400, "invalid_scope".to_owned(), 70_011));
    let nothing = scene.token(&[("grant_type", "client_credentials"), ("scope", APP_SCOPE)]);
    assert_eq!(refusal(nothing).2, 7_000_216);
    let counts = scene.simulator.counts();
    assert_eq!((counts.grant("client_credentials"), counts.tokens_issued, counts.token_refusals), (4, 1, 3));
    assert!(!scene.simulator.events().iter().any(|event| event.contains(&token) || event.contains(SECRET)));
}

/// The proxy's own client reaches the endpoint through rustls and the simulator's CA.
#[test]
fn our_own_client_is_answered() {
    let scene = Scene::new();
    scene.quirk(|quirks| quirks.endpoint.clock_offset = 3600);
    let limits = Config::parse("", Path::new("x")).unwrap().config.limits;
    let client = Client::new(&scene.url("token"), &Roots::File(scene.simulator.authority()), &limits).unwrap();
    let fields =
        [("grant_type", "client_credentials"), ("client_id", APP), ("client_secret", SECRET), ("scope", APP_SCOPE)];
    let asked = Request { form: Some(encode(&fields)), ..Request::default() };
    let answered = scene.runtime.block_on(client.ask(asked)).unwrap();
    assert_eq!(answered.status, 200);
    let ahead = answered.date.unwrap().duration_since(SystemTime::now()).unwrap().as_secs();
    assert!((3500..=3600).contains(&ahead), "{ahead}");
}

#[test]
fn strangers_are_refused() {
    let scene = Scene::new();
    let url = scene.url("token");
    let form = ["-d", "grant_type=client_credentials", "-d", "client_id=stranger"];
    let code = |arguments: &[&str]| {
        let (status, _, body) = scene.curl(arguments).unwrap();
        refusal((status, serde_json::from_str(&body).unwrap())).2
    };
    assert_eq!(code(&[&[url.as_str()], form.as_slice()].concat()), 700_016);
    assert_eq!(code(&[&[url.replace(TENANT, "fabrikam").as_str()], form.as_slice()].concat()), 90_002);
    assert_eq!(code(&[&url, "-d", "a=b"]), 900_144);
    assert_eq!(refusal(scene.token(&[("grant_type", "magic")])).2, 70_003);
    assert_eq!(scene.curl(&[&url]).unwrap().0, 404);
}

struct Signer {
    key: SigningKey,
    claims: Value,
}

impl Signer {
    fn jwt(&self) -> String {
        let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": "thumbprint"});
        let part = |value: &Value| BASE64URL.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&self.claims));
        format!("{signed}.{}", BASE64URL.encode(self.key.ps256(signed.as_bytes()).unwrap()))
    }
}

#[test]
fn client_credentials_with_a_certificate() {
    let pair = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let key = VerifyingKey::from_pem(&pair.public_key_to_pem().unwrap()).unwrap();
    let certificate = ClientCertificate { key, thumbprint: "thumbprint".to_owned() };
    let scene = Scene::with(|tenant| tenant.certificate = Some(certificate));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "aud": scene.url("token"), "iss": APP, "sub": APP, "jti": "1", "nbf": now - 60, "exp": now + 540,
    });
    let key = SigningKey::from_pem(&pair.private_key_to_pem_pkcs8().unwrap()).unwrap();
    let mut signer = Signer { key, claims };
    let ask = |assertion: &str| {
        scene.token(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", BEARER),
            ("client_assertion", assertion),
            ("scope", APP_SCOPE),
        ])
    };
    let first = signer.jwt();
    assert_eq!(ask(&first).0, 200);
    assert_eq!(refusal(ask(&first)).2, 700_027, "the same jti");
    signer.claims["jti"] = json!("2");
    assert_eq!(refusal(ask(&signer.jwt().replace('.', ".."))).2, 50_027);
    let (signed, of_another) = (signer.jwt(), first.rsplit_once('.').unwrap().1);
    let foreign = format!("{}.{of_another}", signed.rsplit_once('.').unwrap().0);
    assert_eq!(refusal(ask(&foreign)).2, 700_027, "the signature");
    for (claim, wrong, code) in [("aud", "https://elsewhere/", 700_023), ("iss", "x", 700_021), ("sub", "x", 700_021)] {
        let right = signer.claims[claim].take();
        signer.claims[claim] = json!(wrong);
        assert_eq!(refusal(ask(&signer.jwt())).2, code, "{claim}");
        signer.claims[claim] = right;
    }
    for offset in [3600, -3600] {
        scene.quirk(|quirks| quirks.endpoint.clock_offset = offset);
        assert_eq!(refusal(ask(&signer.jwt())), (401, "invalid_client".to_owned(), 700_024));
    }
    scene.quirk(|quirks| quirks.endpoint.clock_offset = 0);
    scene.quirk(|quirks| quirks.endpoint.audience = Some("https://login.example/token".to_owned()));
    assert_eq!(refusal(ask(&signer.jwt())).2, 700_023);
    signer.claims["aud"] = json!("https://login.example/token");
    assert_eq!(ask(&signer.jwt()).0, 200);
    // A certificate that has been removed is an unknown one, also where it was the last.
    scene.simulator.remove_certificate("thumbprint");
    signer.claims["jti"] = json!("3");
    assert_eq!(refusal(ask(&signer.jwt())), (401, "invalid_client".to_owned(), 700_027));
}

#[test]
fn a_managed_identity() {
    let scene = Scene::with(|tenant| tenant.federated_token = Some("identity.of.machine".to_owned()));
    let url = format!(
        "http://{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=api://AzureADTokenExchange",
        scene.simulator.imds()
    );
    assert_eq!(scene.curl(&[&url]).unwrap().0, 400);
    let (status, _, body) = scene.curl(&["-H", "Metadata: true", &url]).unwrap();
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &answer["expires_in"]), (200, &json!("4512")));
    let ask = |assertion: &str| {
        let kind = ("client_assertion_type", BEARER);
        scene.token(&[
            ("grant_type", "client_credentials"),
            kind,
            ("client_assertion", assertion),
            ("scope", APP_SCOPE),
        ])
    };
    assert_eq!(ask(answer["access_token"].as_str().unwrap()).0, 200);
    assert_eq!(refusal(ask("somebody.else")).2, 700_213);
    assert_eq!(scene.simulator.counts().metadata_requests, 2);
    scene.quirk(|quirks| quirks.metadata_fault = Some(Fault::Status(429, Some(1))));
    assert_eq!(scene.curl(&["-H", "Metadata: true", &url]).unwrap().0, 429);
    scene.quirk(|quirks| quirks.metadata_fault = Some(Fault::Down));
    assert_eq!(scene.curl(&["-H", "Metadata: true", &url]).unwrap_err(), 52);
}

#[test]
fn authorization_code_with_pkce() {
    let scene = Scene::new();
    let verifier = "a-verifier-of-forty-three-characters-or-more";
    let challenge = BASE64URL.encode(sha256(verifier.as_bytes()));
    let redirect = "http://localhost:4711/";
    let visit = |hint: &str| {
        let fields = [
            ("client_id", APP),
            ("response_type", "code"),
            ("redirect_uri", redirect),
            ("scope", SCOPE),
            ("state", "st&te"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", hint),
        ];
        let url = scene.url("authorize");
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut arguments = vec!["-G", &url];
        for field in &fields {
            arguments.extend(["--data-urlencode", field]);
        }
        let (status, head, _) = scene.curl(&arguments).unwrap();
        assert_eq!(status, 302);
        assert!(head.contains("location: http://localhost:4711/?"), "{head}");
        head
    };
    assert!(visit("").contains("state=st%26te"));
    let code = || {
        let output = Command::new("curl")
            .args(["-s", "-o", "/dev/null", "-w", "%{redirect_url}", "--cacert"])
            .arg(scene.simulator.authority())
            .arg(format!(
                "{}?client_id={APP}&response_type=code&redirect_uri={redirect}&scope={}&code_challenge={challenge}\
                 &code_challenge_method=S256&login_hint={OTHER}",
                scene.url("authorize"),
                SCOPE.replace(' ', "%20")
            ))
            .output()
            .unwrap();
        let location = String::from_utf8(output.stdout).unwrap();
        location.split(['?', '&']).find_map(|field| field.strip_prefix("code=")).unwrap().to_owned()
    };
    let redeem = |code: &str, verifier: &str, redirect: &str| {
        let grant = ("grant_type", "authorization_code");
        scene.token(&[grant, ("code", code), ("code_verifier", verifier), ("redirect_uri", redirect)])
    };
    let first = code();
    let (status, answer) = redeem(&first, verifier, redirect);
    assert_eq!(status, 200, "{answer}");
    assert!(answer["refresh_token"].is_string());
    assert_eq!(refusal(redeem(&first, verifier, redirect)), (400, "invalid_grant".to_owned(), 54_005));
    assert_eq!(refusal(redeem(&code(), "another", redirect)).2, 501_481);
    assert_eq!(refusal(redeem(&code(), verifier, "http://localhost:4712/")).2, 50_011);
    let (code, secret) = (code(), ("client_secret", SECRET));
    let fields = [("grant_type", "authorization_code"), ("code", code.as_str()), ("code_verifier", verifier), secret];
    assert_eq!(refusal(scene.token(&fields)).2, 700_025);
    scene.quirk(|quirks| quirks.endpoint.authorize_error = Some("access_denied".to_owned()));
    assert!(visit("").contains("?error=access_denied&"));
    let mut imap = scene.imap();
    assert!(imap.authenticate(OTHER, answer["access_token"].as_str().unwrap()).starts_with("a OK"));
}

#[test]
fn device_codes() {
    let scene = Scene::new();
    let begin = || {
        let (status, answer) = scene.post("devicecode", &[("scope", SCOPE)]);
        assert_eq!((status, answer["interval"].as_u64()), (200, Some(5)));
        answer
    };
    let poll = |code: &Value| {
        scene.token(&[("grant_type", DEVICE_CODE), ("device_code", code["device_code"].as_str().unwrap())])
    };
    let code = begin();
    scene.quirk(|quirks| quirks.device_code.script = VecDeque::from([Poll::Pending, Poll::SlowDown]));
    assert_eq!(refusal(poll(&code)).1, "authorization_pending");
    assert_eq!(refusal(poll(&code)).1, "slow_down");
    assert_eq!(refusal(poll(&code)), (400, "authorization_pending".to_owned(), 70_016));
    assert_eq!(scene.simulator.approve_device_code(), 1);
    assert_eq!(poll(&code).0, 200);
    assert_eq!(refusal(poll(&code)).1, "bad_verification_code");

    let code = begin();
    scene.quirk(|quirks| quirks.device_code.script = VecDeque::from([Poll::Declined, Poll::Expired]));
    assert_eq!(refusal(poll(&code)).1, "authorization_declined");
    assert_eq!(refusal(poll(&code)), (400, "expired_token".to_owned(), 70_019));
    let page = format!("https://{}/devicelogin?user_code=", scene.simulator.endpoint());
    assert_eq!(scene.curl(&[&format!("{page}none")]).unwrap().0, 200);
    assert_eq!(refusal(poll(&code)).1, "authorization_pending");
    scene.curl(&[&format!("{page}{}", code["user_code"].as_str().unwrap())]).unwrap();
    assert_eq!(poll(&code).0, 200);

    scene.quirk(|quirks| quirks.device_code.expires_in = 0);
    assert_eq!(refusal(poll(&begin())).1, "expired_token");
    scene.quirk(|quirks| quirks.device_code = Default::default());
    scene.quirk(|quirks| quirks.device_code.approved = true);
    assert_eq!(poll(&begin()).0, 200);
    let counts = scene.simulator.counts();
    assert_eq!((counts.device_codes, counts.polls, counts.grant("device_code")), (4, 11, 11));
}

#[test]
fn refresh_tokens_rotate() {
    let scene = Scene::new();
    let refresh = |token: &Value| {
        scene.token(&[("grant_type", "refresh_token"), ("refresh_token", token.as_str().unwrap()), ("scope", SCOPE)])
    };
    let first = scene.user_answer()["refresh_token"].clone();
    let second = refresh(&first).1["refresh_token"].clone();
    assert!(second.is_string() && second != first);
    assert_eq!(refresh(&second).0, 200);
    assert_eq!(refresh(&first).0, 200, "the old one lives on");
    assert_eq!(scene.simulator.counts().last_refresh_token.as_deref(), first.as_str());
    scene.quirk(|quirks| quirks.refresh.strict_rotation = true);
    assert_eq!(refusal(refresh(&first)), (400, "invalid_grant".to_owned(), 700_082));
    scene.quirk(|quirks| quirks.refresh.omit_new = true);
    assert!(refresh(&second).1["refresh_token"].is_null());
    scene.simulator.revoke_refresh_tokens();
    assert_eq!(refusal(refresh(&second)).2, 700_082);
}

#[test]
fn passwords_and_clients_that_must_prove_themselves() {
    let scene = Scene::with(|tenant| tenant.public_client = false);
    let ask = |name: &str, password: &str, secret: &[(&str, &str)]| {
        let fields = [("grant_type", "password"), ("username", name), ("password", password), ("scope", SCOPE)];
        scene.token(&[fields.as_slice(), secret].concat())
    };
    let proof = [("client_secret", SECRET)];
    assert_eq!(ask(SCAN, SCAN_PASSWORD, &proof).0, 200);
    assert_eq!(refusal(ask(SCAN, SCAN_PASSWORD, &[])).2, 7_000_218);
    assert_eq!(refusal(ask(SCAN, "wrong", &proof)), (400, "invalid_grant".to_owned(), 50_126));
    assert_eq!(refusal(ask("nobody@contoso.example", "x", &proof)).2, 50_034);
}

#[test]
fn faults() {
    let scene = Scene::new();
    let url = scene.url("token");
    let secret = format!("client_secret={SECRET}");
    let form = ["-d", "grant_type=client_credentials", "--data-urlencode", &secret, "-d"];
    let client = format!("client_id={APP}&scope={APP_SCOPE}");
    let ask = || scene.curl(&[&form, [client.as_str(), &url].as_slice()].concat());
    let fault = |fault| scene.quirk(|quirks| quirks.endpoint.fault = Some(fault));
    fault(Fault::Down);
    assert_eq!(ask().unwrap_err(), 52, "an empty reply");
    fault(Fault::Status(429, Some(17)));
    let (status, head, _) = ask().unwrap();
    assert!(status == 429 && head.contains("retry-after: 17") && head.contains("\ndate: "), "{head}");
    fault(Fault::Status(500, None));
    assert_eq!(ask().unwrap().0, 500);
    fault(Fault::Html);
    assert!(ask().unwrap().2.contains("<html>"));
    fault(Fault::Garbage);
    assert_eq!(ask().unwrap().0, 200);
    fault(Fault::Error("interaction_required", 50_076));
    let (status, _, body) = ask().unwrap();
    assert_eq!(refusal((status, serde_json::from_str(&body).unwrap())).2, 50_076);
    assert_eq!(scene.simulator.counts().token_refusals, 6);
    scene.quirk(|quirks| quirks.endpoint.fault_times = Some(1));
    assert_eq!(ask().unwrap().0, 400);
    assert_eq!(ask().unwrap().0, 200);
}

#[test]
fn answers_that_are_odd_but_right() {
    let scene = Scene::new();
    scene.quirk(|quirks| {
        quirks.endpoint.expires_in = 72_000;
        quirks.endpoint.expires_in_as_string = true;
        quirks.endpoint.token_length = Some(5000);
        quirks.endpoint.clock_offset = -3600;
    });
    let answer = scene.user_answer();
    assert_eq!(answer["expires_in"], json!("72000"));
    assert!(answer["access_token"].as_str().unwrap().len() >= 5000);
    let (_, head, _) = scene.curl(&[&scene.url("token"), "-d", "a=b"]).unwrap();
    let date = head.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
    assert_eq!(head.matches("\ndate: ").count(), 1);
    let behind = Command::new("date").args(["-d", date, "+%s"]).output().unwrap();
    let behind: u64 = String::from_utf8(behind.stdout).unwrap().trim().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((3590..=3660).contains(&(now - behind)), "{date}");
}
