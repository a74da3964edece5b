"""Names that some source gives to a concept and that mean nothing, or something else, in running text.

Found by judging the links that a plain dictionary proposes on report texts; in normal form.
"""

_WORDS = """
absent | abnormal | abnormality | acute | adult | anterior | apical | area | arm | as | aspect | asymmetric |
atypical | axial | back | band | base | benign | bilateral | birth | blind | body | border | bright | broad | cap |
case | cell | central | change | characteristic | child | chronic | clear | clinical | cold | collection | color |
complete | complex | complication | component | concentric | condition | contrast | convex | cord | coronal |
cortical | course | crown | cut | dark | death | deep | defect | definite | density | depth | development |
diameter | diffuse | dilated | direct | disease | disorder | distal | distance | distribution | dot | duct |
duration | early | edge | elevated | enhancement | enlarged | enlargement | episodic | equina | even | evidence |
exam | extension | external | fall | feature | female | few | fever of | field | finding | fine | fluid | focal |
fold | foot of | form | frequent | function | general | generalized | good | grade | gray | great | group | growth |
halo | hand of | head of | heavy | height | high | history | hot | image | imaging | in | incidental | increased |
indeterminate | infant | inferior | injury | inner | internal | interval | irregular | isolated | joint space |
large | late | lateral | layer | left | length | lesion | level | limb | limited | line | linear | lobe | local |
localized | location | long | loss | low | lower | lump | male | malignant | margin | marked | mass | massive |
medial | median | mental | middle | mild | minimal | minor | missing | mixed | moderate | morphology | motion |
multifocal | multiple | muscle | narrow | negative | neonatal | new | nodular | none | normal | not | number |
occasional | old | onset | open | organ | other | outer | outline | pain of | part | partial | past | pathology |
patient | pattern | peripheral | persistent | phase | plane | plate | point | poor | position | positive |
posterior | present | primary | process | profound | progression | progressive | projection | proximal | radiating |
rapid | rare | recent | recurrent | region | related | relative | relaxed | response | right | ring | rotation |
round | secondary | segment | sequence | severe | severity | shape | short | side | sign | signal | simple |
single | site | size | skin tag of | slow | small | soft | solid | space | specific | spherical | spontaneous |
spread | square | stable | stage | stain | standing | state | status | stool | straight | string | structure | sub |
subacute | sudden | superficial | superior | surface | suture | symmetric | symptom | syndrome | system | tail |
target | tear | tender | term | thick | thickness | thin | time | tip | tissue | total | tract | transient |
transparent | transverse | trunk | tube | type | typical | ulna of | unilateral | unit | unknown |
unspecified | upper | uptake | variable | variant | vertical | view | visible | volume | wall | wave | weak |
wedge | weight | white | whole | wide | width | yellow | zone | zonal | t1 | t2 | t1wi | t2wi | t1w | t2w | flair |
dwi | adc | gre | stir | swi | ct | mri | mr | us | xr | pet | nm | can | may | all | and | at | be | but | by |
do | down | for | had | has | he | her | his | if | is | it | more | no | of | on | or | our | out | over | per |
she | so | some | than | that | the | their | there | they | this | to | up | was | we | who | with | you |
homogeneous | heterogeneous | mobile | extent | composition | contour | texture | appearance | echogenicity |
attenuation | calcification pattern | signal intensity | internal architecture | enhancement pattern |
mass effect of | impact | mild to | side effect | one | two | three | first | second | third | set | met | cat |
rest | gap | mid | sac | pit | arch | bud | root | neck of | shaft | stalk | stem | roof | floor | bed | bridge |
canal | capsule | cavity | chamber | cleft | column | commissure | cone | crest | crus | disc | fascia | fascicle |
fiber | film | fissure | foramen | fossa | furrow | gland | groove | gyrus | hilum | horn | inlet | island |
isthmus | junction | ligament | lumen | matrix | membrane | meshwork | nerve | node | notch | nucleus | opening |
orifice | outlet | papilla | pedicle | plexus | pole | pouch | raphe | recess | ridge | septum | sheath | sinus |
sphincter | spine of | sulcus | tendon | tubercle | vein | ventricle of | vesicle | vessel | villus | artery |
bone | joint | nail of | organ system
""".replace("\n", " ")

STOP_TERMS = frozenset(word.strip() for word in _WORDS.split("|") if word.strip())

# Words and signs that carry no meaning of their own: a name made of them only is none.
_FUNCTION_TEXT = """
a an and are as at be been but by can for from had has have he her his in is it may of on or she that the their
there these this to was were which with . , ; : ( ) / ? ! [ ] < > = + & %
"""
FUNCTION_WORDS = frozenset(_FUNCTION_TEXT.split())
