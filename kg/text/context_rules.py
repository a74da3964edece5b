"""The trigger table of the context rules: what denies, doubts, dates or attributes a mention, and where that ends.

Phrases are in normal form (folded tokens). Direction: a `pre` trigger acts on what follows, a `post` trigger on what
precedes. A `pseudo` phrase looks like a trigger and is none; it is matched first and blocks the words it covers.
After Chapman et al. 2001 (NegEx) and Harkema et al. 2009 (ConText), extended for radiology and pathology reports.
"""

from typing import Literal, NamedTuple

Category = Literal["negation", "uncertainty", "historical", "hypothetical", "other", "termination", "pseudo"]
Direction = Literal["pre", "post", "none"]


# No trigger acts further than this many tokens.
MAX_REACH = 40


class Rule(NamedTuple):
    """What a phrase does. `reach` is how many tokens it acts over at most; a termination `ends` some categories."""

    category: Category
    direction: Direction
    reach: int = MAX_REACH
    ends: frozenset[Category] = frozenset()


_CLAIMS: frozenset[Category] = frozenset(("negation", "uncertainty"))
_BACKGROUND: frozenset[Category] = frozenset(("historical", "other"))
_ALL: frozenset[Category] = _CLAIMS | _BACKGROUND | {"hypothetical"}

_PRE_NEGATION = """
no | not | without | denies | deny | denied | denying | absence of | absent | negative for | neg for | free of |
no evidence | no sign of | no signs of | no evidence of | no evidence for | no evidence to suggest |
no radiographic evidence of | no convincing evidence of | no definite | no suspicious | no new | no significant |
no obvious | no suggestion of | no mammographic evidence of | no indication of | no finding of | no findings of |
no history of | no complaint of | no complaints of | no known | fails to reveal | failed to reveal |
did not reveal | does not reveal | not reveal | not demonstrate | not show | not appreciate | not appear |
not have | not feel | not know of | not known to have | not see | not exhibit | not complain of |
not associated with | ruled out | ruled him out | ruled her out | ruled the patient out | never developed |
never had | never | unremarkable for | rather than | instead of | resolved | lack of | lacks | lacked | declined |
declines | nor | neither | cannot see | cannot | evaluate for absence of | non | unable to identify |
is negative for | was negative for | were negative for | are negative for | with no | and no | but no | has no |
had no | showed no | shows no | showing no | revealed no | reveals no | revealing no | demonstrated no |
demonstrates no | there is no | there was no | there were no | there are no | denies any | denied any | none of |
zero | no longer has | no abnormal | no cause of | checked for | test for no | clear of | patient was not |
patient is not | is not | are not | was not | were not | does not have | did not have | do not have | has not had |
have not had | not had | without any | without evidence of | without sign of | without signs of | w o | no further |
no other | no associated | no acute | no focal | no gross | no overt | no apparent | no large | no frank |
no residual | no recurrent | inconsistent with | not consistent with | not suggestive of | not indicative of |
excluded | excludes | exclude the presence of | with the exclusion of | ve for | is ve for | no residua of
""".replace("\n", " ")

_POST_NEGATION = """
not seen | is not seen | are not seen | not identified | is not identified | are not identified | not present |
was not present | is absent | are absent | absent | is negative | are negative | was negative | were negative |
negative | unlikely | is unlikely | are unlikely | was unlikely | is ruled out | are ruled out | was ruled out |
were ruled out | been ruled out | ruled out | have been ruled out | has been ruled out | is excluded |
was excluded | were excluded | excluded | not demonstrated | not visualized | not detected | not appreciated |
not evident | not found | not noted | not observed | was not seen | were not seen | was not identified |
were not identified | not apparent | free | has resolved | have resolved | resolved | denied | is denied |
was denied | denies | did not rule in | none | not shown | not suspected | was not found | were not found |
not elicited | not palpable | not felt
""".replace("\n", " ")

_PRE_UNCERTAIN = """
possible | possibly | probable | probably | likely | suspected | suspect | suspicion of | suspicion for |
suspicious for | suspicious of | questionable | question of | question | query | may represent | may be | may have |
might be | might represent | could be | could represent | could have | cannot exclude | can not exclude |
cannot rule out | cannot be excluded | not excluded | not rule out | did not rule out | concern for |
concerning for | concern of | worrisome for | consistent with possible | suggestive of | suggests | suggesting |
suggest | suggestion of | versus | vs | differential includes | differential considerations include |
differential diagnosis includes | differential diagnosis | ddx | presumed | presumptive | presumably | perhaps |
rule out | r o | ro | rule him out | rule her out | rule the patient out | evaluate for | evaluation for |
evaluation of | assess for | to exclude | to rule out | be ruled out for | appears to be | appear to be |
felt to be | thought to be | thought to represent | favor | favors | favoring | favored | most likely |
more likely | equivocal for | indeterminate for | compatible with possible | potential | potentially | apparent |
working diagnosis | raises the possibility of | raising the possibility of | possibility of | probability of |
chance of | looking for | screening for | investigate for | unclear if | uncertain | concerned about |
concern about
""".replace("\n", " ")

_POST_UNCERTAIN = """
is suspected | are suspected | was suspected | suspected | is possible | are possible | possible | is likely |
are likely | likely | is probable | probable | is questioned | questionable | is favored | favored |
cannot be excluded | can not be excluded | cannot be ruled out | not excluded | is not excluded | not be excluded |
not be ruled out | could not be ruled out | be ruled out | is to be ruled out | to be ruled out |
must be ruled out | should be ruled out | needs to be excluded | is a consideration | is considered |
in the differential | less likely | versus | vs | is uncertain | is equivocal | is indeterminate
""".replace("\n", " ")

_HISTORICAL = """
history of | h o | past history of | past medical history | previous | prior | status post | s p | remote | old |
past | in the past | years ago | year ago | months ago | known history of | hx of | hx | long history of |
previous history of | medical history | surgical history | known to have | sequelae of |
history significant for | medical history significant for | history notable for | history | s p xrt for |
previous diagnosis of
""".replace("\n", " ")

_POST_HISTORICAL = """
in the past | years ago | year ago | months ago | month ago | weeks ago | last year | in childhood | as a child |
by history | since childhood
""".replace("\n", " ")

_HYPOTHETICAL = """
if | should he develop | should she develop | should the patient develop | return if | return for |
return to the emergency department for | in case of | as needed for | risk of | risk for | at risk for |
at risk of | high risk for | increased risk of | call for | come back for | come back if | unless | to prevent |
prevention of | prophylaxis | monitor for | watch for | precautions for | educated about | instructed to return |
be alert for | should there be | should there develop | should you | might develop | could develop |
if any of the following | any signs of | any symptoms of | if there is any | if there are any | if there is |
if there are | as if | return with | advised to call | alert the physician if | notify | any new
""".replace("\n", " ")

_OTHER = """
family history of | family history | fh | family hx | mother | father | sister | brother | sibling | son |
daughter | aunt | uncle | cousin | grandmother | grandfather | grandparent | parent | maternal | paternal |
relative | niece | nephew | grandson | granddaughter | his mother | her mother | mom | dad | wife | husband |
spouse | roommate | donor | grandchild | twin | mother s | father s
""".replace("\n", " ")

_TERMINATION = """
but | however | nevertheless | yet | although | though | except | except for | apart from | aside from | otherwise |
still | since
""".replace("\n", " ")

_TERMINATION_CLAIM = """
secondary to | due to | because of | because | cause of | causes of | cause for | etiology of | source of |
reason for | reasons for | origin of | origin for | trigger event for | as a cause of | as the cause of |
as a source of | as a reason for | as an etiology of | has | where | there is | there are | there was | there were |
consistent with | compatible with | reveals | revealed | demonstrates | demonstrated | showed | shows | remains |
remained | persists | which | who | now | today | currently | presents | presented | complains of | was found |
found to have | is present | are present | is seen | are seen | is noted | are noted | admitted with |
admitted for | in regard to
""".replace("\n", " ")

_TERMINATION_PAST = """
presenting | presents | presented | who presents | who presented | complains of | complaining of | complaint of |
was found | found to have | now has | now with | now | today | currently | coming in | comes in | admitted with |
admitted for | admitted to | was admitted | which | who | is present | are present | is seen | are seen | is noted |
are noted | signs and symptoms | symptoms were | persists | this visit | on this admission
""".replace("\n", " ")

_PSEUDO = """
no increase | no change | no interval change | no significant change | no significant interval change |
no suspicious change | no definite change | not necessarily | not only | not certain if | not certain whether |
not extend | not cause | not drain | without difficulty | without further | gram negative | gram positive |
no doubt | double negative | not exclude | nor difficulty | no history available | non contrast | noncontrast |
no longer | not change | not ruled out | not been ruled out | not yet ruled out | without change |
with and without | with without | and without contrast | without contrast | without intravenous contrast |
without iv contrast | no previous | no prior | no comparison | history and | history and physical |
history and examination | history taking | history for | social history | no abnormal vessels extending |
no further change | prior to | old man | old woman | old male | old female | year old | month old | week old |
day old | old boy | old girl | not clear | poor history | absence seizure | absent minded | negative pressure |
free fluid | free air | free flap | free text | negative margin | old patient | status post mother |
father in law's report | no less than | not infrequently | not uncommonly | rule of | non small cell | non small |
non hodgkin | non ossifying | non ischemic | non specific | non alcoholic | non obstructive | non occlusive |
non seminomatous | non functioning | non displaced | non communicating | non accidental | non compressive | non st |
non obstructing | non calcified | non enhancing | non muscle invasive | non invasive | non keratinizing |
non epithelial | non neoplastic | non keratinising | day history of | day history | day h o | week history of |
week history | week h o | month history of | month history | month h o | hour history of | hour history | hour h o |
year history of | year history | year h o | minute history of | minute history | minute h o |
history of present illness | history of the present illness | history of presenting illness |
history of presenting complaint | history present illness | previous hospital | as previously noted |
as previously described | previously noted | previously described | previously seen | prior study | prior exam |
prior examination | prior ct | prior mri | prior radiograph | previous study | previous exam |
previous examination | previous ct | previous mri | clinical history | comparison with prior | compared to prior |
compared with prior | compared to previous | indication for | past due | negative deflection | negative stress |
negative t wave
""".replace("\n", " ")

_TABLE: tuple[tuple[str, Rule], ...] = (
    (_PRE_NEGATION, Rule("negation", "pre")),
    (_POST_NEGATION, Rule("negation", "post", 12)),
    (_PRE_UNCERTAIN, Rule("uncertainty", "pre", 20)),
    (_POST_UNCERTAIN, Rule("uncertainty", "post", 10)),
    (_HISTORICAL, Rule("historical", "pre", 25)),
    (_POST_HISTORICAL, Rule("historical", "post", 20)),
    (_HYPOTHETICAL, Rule("hypothetical", "pre", 30)),
    (_OTHER, Rule("other", "pre", 40)),
    (_TERMINATION, Rule("termination", "none", ends=_ALL)),
    (_TERMINATION_CLAIM, Rule("termination", "none", ends=_CLAIMS)),
    (_TERMINATION_PAST, Rule("termination", "none", ends=_BACKGROUND)),
    (_PSEUDO, Rule("pseudo", "none")),
)


def trigger_table() -> dict[tuple[str, ...], tuple[Rule, ...]]:
    """Return rules by phrase (tuple of folded tokens). A phrase may act in both directions."""
    from kg.text.normalise import normal_name

    table: dict[tuple[str, ...], tuple[Rule, ...]] = {}
    for phrases, rule in _TABLE:
        for phrase in phrases.split("|"):
            key = tuple(normal_name(phrase).split())
            if key and rule not in table.get(key, ()):
                table[key] = (*table.get(key, ()), rule)
    # A pseudo phrase does nothing else, even where another list holds it too.
    for key, rules in table.items():
        if any(rule.category == "pseudo" for rule in rules):
            table[key] = ()
    return table
