#!/bin/sh
# Builds an index of the bundled corpus with the built-in encoder and asks it questions across languages, offline.
set -eu
cd "$(dirname "$0")/.."
export HF_HUB_OFFLINE=1

ask() {
    printf '\n\033[1m> xsearch search demo "%s" -k 1%s\033[0m\n' "$1" "${2:+ $2}"
    # The options are few and hold no spaces.
    # shellcheck disable=SC2086
    xsearch search demo "$1" -k 1 ${2:-}
}

echo '> xsearch index demo demo/corpus'
xsearch index demo demo/corpus

# None of these topics has a text in the language of its question.
ask 'During which eclipse was helium first noticed?'
ask '是谁研制的疫苗救了被疯狗咬伤的男孩？'
ask 'لماذا انهار جسر تاكوما عام 1940؟'
ask 'दूध वाली चॉकलेट सबसे पहले किसने बनाई?'
ask '¿Cuántos huevos pone al día una abeja reina?' '--lang hi'

cat <<'END'

Try next (after: . .venv/bin/activate):
  xsearch search demo "Which suspension bridge has the longest main span?" -k 3 --json
  xsearch index mine ~/Documents --dry-run
  xsearch info demo
END
