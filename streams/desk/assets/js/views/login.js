// Who has no session says which token is theirs; it goes into a cookie that scripts can't read.
import { capital } from "../format.js";
import { html, useState } from "../lib.js";
import { logIn, session } from "../store.js";

export function Login() {
  const [failure, setFailure] = useState(null);
  const [busy, setBusy] = useState(false);
  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    try {
      await logIn(new FormData(event.target).get("token").trim());
    } catch (error) {
      setFailure(error);
      setBusy(false);
    }
  }
  return html`<main class="login" id="main"><form class="panel" onSubmit=${submit}>
    <h1>Pricemaker desk</h1>
    <p>${session.value.expired ? "Your token has expired or was withdrawn. Log in again." : "Log in with your token."}</p>
    <label for="token">Token</label>
    <input id="token" name="token" type="password" autocomplete="current-password" required autofocus />
    ${failure && html`<p class="bad" role="alert">${capital(failure.message)} ${failure.fix}</p>`}
    <div class="buttons"><button type="submit" class="primary" disabled=${busy}>Log in</button></div>
    <p class="note">Whoever runs the gateway makes one: pricemaker gateway token --name you --role operate</p>
  </form></main>`;
}
