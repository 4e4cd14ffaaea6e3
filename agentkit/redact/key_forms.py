"""Keys that are recognized by their form alone: by the prefixes of services, and by a few complete patterns.

Prefixes and lengths come from the services' documentation, and from the rules of gitleaks and detect-secrets. The min lengths
are shorter than real keys, since a text may be cut.
"""

from __future__ import annotations

import re
from functools import cache

__all__ = ["compiled", "hide_known_forms", "is_random"]

_SURE = r"""
    sk_(?:live|test)_ rk_(?:live|test)_ pk_(?:live|test)_ whsec_  # Stripe
    gh[oprsu]_ github_pat_  # GitHub
    gl(?:pat|dt|rt|ft|cbt|ptt|soat|imt|agent|oas)- GR1348941  # GitLab
    xox[a-z]- xoxe\.xox[a-z]- xapp-\d-  # Slack
    shp(?:at|ca|pa|ss|ua)_ sq0[a-z]{3}- shippo_(?:live|test)_ sm_[aps]at_  # Shopify, Square, Shippo, SettleMint
    do[opr]_v1_ dckr_[op]at_ hv[bsr]\. dp\.(?:pt|st|ct|sa|scim|audit)\. pscale_[a-z]{2,5}_  # DigitalOcean, Docker, Vault
    glsa_ glc_ sntry[su]_ lin_(?:api|oauth)_ figd_ rubygems_ PMAK- NRAK- NRII- nfp_  # Grafana, Sentry, Linear, Figma, ...
    xkeysib- rdme_ duffel_(?:live|test)_ FLWSECK(?:_TEST)?- CCIPAT_ sgp_ tskey-[a-z]{2,9}-  # Brevo, ReadMe, Duffel, ...
    vercel_blob_rw_
    GOCSPX- ya29\. HRKU-AA AT[AC]TT3 ATBB CFPAT- pypi-AgE lsv2_[a-z]{2}_ ops_eyJ  # Google, Heroku, Atlassian, PyPI, ...
"""
"""Prefixes with no other meaning: eight characters after one are enough."""

_LIKELY = r"""
    sk- csk- gsk_ xai- nvapi- pplx- tvly- tgp_v1_ pcsk_ e2b_ rpa_ r8_ cpk_ jina_ wandb_v1_  # services of models
    apify_api_ esecret_ bb_live_ vck_ sbp_ sb_secret_ bkua_ cf[au]t_ pul- fo1_ fm[12][ar]?_
    napi_ ntn_ EZ[AT]K ico- tk-us- pnu_ dnkey- AQ\. bce-v3/ALTAK-
"""
"""Prefixes that also begin ordinary names (`sk-learn`): the rest must look random."""

_WORDY = r"fw_ fc- pa- re_ key- key_ secret_ aio_ vcp_ pat- ls__ API-"
"""Prefixes that are words: at least 16 letters and digits in a row must follow, with at least one of each."""

_LETTERS = r"hf_ api_org_ npm_"
"""Prefixes that at least 16 letters or digits must follow, with nothing in between."""

_SHAPES = r"""
      (?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{12,}      # AWS
    | ABSK[A-Za-z0-9+/]{20,}=*|bedrock-api-key-[A-Za-z0-9+/]{16,}=*
    | AIza[\w-]{20,}                                        # Google
    | SG\.[\w-]{8,}\.[\w-]{16,}                             # SendGrid
    | dapi[0-9a-f]{16,}(?:-\d)?                             # Databricks
    | (?:LTAI|AKID)[A-Za-z0-9]{12,}                         # Alibaba, Tencent
    | SK[0-9a-f]{32}                                        # Twilio
    | [0-9a-f]{32}-us\d{1,2}                                # Mailchimp
    | [0-9a-f]{32}\.[A-Za-z0-9]{16}                         # Zhipu
    | (?:bot)?\d{8,10}:AA[\w-]{30,}                         # Telegram
    | [A-Za-z0-9]{14}\.atlasv1\.[\w-]{20,}                  # Terraform
    | dt0[a-z]\d\d\.[A-Z0-9]{8,}\.[A-Z0-9]{16,}             # Dynatrace
    | pat[A-Za-z0-9]{14}\.[0-9a-f]{16,}                     # Airtable
    | [MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,40}             # Discord
    | [\w~.]{3}\dQ~[\w~.-]{31,34}                           # Microsoft Entra
    | sha256~[\w-]{30,}                                     # OpenShift
    | sl\.[A-Za-z][\w-]{40,}                                # Dropbox
    | AGE-SECRET-KEY-1[0-9A-Z]{20,}
    | A3-[A-Z0-9]{6}-[A-Z0-9]{5,11}(?:-[A-Z0-9]{5,6}){3,4}  # 1Password
    | (?<![\w.-])eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]+){1,3}   # JSON web tokens
    | eyJrIjoi[A-Za-z0-9+/]{16,}=*  # Grafana, before 2022
    | [sp]k\.eyJ[\w-]{8,}\.[\w-]{10,}                       # Mapbox
"""
_CANDIDATE = r"[\w.~:+/=-]{12,}"
"""Text that may contain a key. Most text does not match, and is not searched for each prefix."""
_RUN = r"[A-Za-z0-9]+"
_NUMBERED = r"[A-Za-z]?[a-z]+\d{1,4}|\d{1,4}[A-Za-z]?[a-z]+"
_COUNTED = r"0?123456789|abcdefgh"
"""Digits or letters in order: an example, not a key."""
_LONG = r"(?=[A-Za-z0-9]{0,15}\d)(?=[0-9]{0,15}[A-Za-z])[A-Za-z0-9]{16}"


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, compiled on first use: compiling would take longer than the rest of the import."""
    return re.compile(pattern)


def is_random(text: str) -> bool:
    """Whether a text looks random: 16 letters and digits in a row, or 8 of both kinds that are not a word with a number."""
    return any(
        len(run) >= 16 or (len(run) >= 8 and not (run.isalpha() or run.isdigit() or compiled(_NUMBERED).fullmatch(run)))
        for run in compiled(_RUN).findall(text)
    )


def hide_known_forms(text: str, mask: str) -> str:
    """The text with each key replaced by the mask."""

    def hidden(found: re.Match[str]) -> str:
        if found["likely"]:
            return mask if is_random(found["likely"]) else found[0]
        if (wordy := found["wordy"]) and (compiled(_COUNTED).match(wordy) or not compiled(_LONG).search(wordy)):
            return found[0]
        return mask

    return compiled(_CANDIDATE).sub(lambda found: compiled(_key()).sub(hidden, found[0]), text)


@cache
def _key() -> str:
    def any_of(prefixes: str) -> str:
        return "|".join(re.sub("#.*", "", prefixes).split())

    return rf"""(?x)(?<![A-Za-z0-9])(?:
        (?:{any_of(_SURE)})[\w.~+/=-]{{8,}}
      | (?:{any_of(_LIKELY)})(?P<likely>[\w./-]{{8,}}=*)
      | (?:{any_of(_WORDY)})(?P<wordy>[\w-]{{16,}})
      | (?:{any_of(_LETTERS)})[A-Za-z0-9]{{16,}}
      | {_SHAPES})"""
