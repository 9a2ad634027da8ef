"""Twenty sentences in ten pairs of like meaning, from four words to a paragraph."""

PAIRS = (
    ("The cat sleeps.", "A kitten is napping."),
    ("How do I reset my password?", "I forgot my password and cannot log in to my account."),
    ("The train to Geneva leaves at seven.", "Departure of the Geneva service: 07:00."),
    (
        "Stir the onions in butter until they turn golden.",
        "Fry chopped onions gently with a little butter till they are lightly browned.",
    ),
    (
        "Interest rates rose again this quarter.",
        "The central bank lifted its policy rate for the second time in three months.",
    ),
    (
        "Snow is expected above two thousand metres tonight.",
        "Forecasters say the mountains will see fresh snowfall after dark, mostly on the high "
        "slopes.",
    ),
    (
        "A matrix is multiplied by streaming one operand through an array that holds the other.",
        "In a systolic array the weights stay in place while the activations move past them, "
        "one column at a time.",
    ),
    (
        "The doctor advised him to rest for two weeks after the operation.",
        "Following surgery the patient was told to avoid any effort for a fortnight and to come "
        "back for a check-up before returning to work.",
    ),
    (
        "She learned to play the violin as a child and still practises every evening after dinner.",
        "Since early childhood she has been a violinist; even now, when the meal is over, she "
        "takes out the instrument and plays for an hour or so each night.",
    ),
    (
        "The first ascent of the mountain was made by a small team that carried its own supplies "
        "and spent eleven nights above the last camp before bad weather forced it down.",
        "Only a handful of climbers took part in the expedition that reached the summit first: "
        "they hauled all their food and fuel themselves, slept high for more than a week, and "
        "turned back when a storm came in over the ridge.",
    ),
)
SENTENCES = tuple(sentence for pair in PAIRS for sentence in pair)
