#include "base/reason.h"

static const struct base_reason_info infos[BASE_REASON_COUNT] = {
	[BASE_REASON_NONE] = { "None", BASE_SEVERITY_NORMAL, "", "", "" },
#define BASE_REASON_ROW(name, word, severity, id, meaning, remedy)                                 \
	[BASE_REASON_##name] = { word, BASE_SEVERITY_##severity, id, meaning, remedy },
	BASE_REASONS(BASE_REASON_ROW)
#undef BASE_REASON_ROW
};

const struct base_reason_info *base_reason_info(enum base_reason reason)
{
	if ((unsigned)reason >= BASE_REASON_COUNT)
		reason = BASE_REASON_NONE;
	return &infos[reason];
}

const char *base_reason_word(enum base_reason reason)
{
	return base_reason_info(reason)->word;
}
