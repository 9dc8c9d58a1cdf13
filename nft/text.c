#include "nft/text.h"

#include <stdarg.h>
#include <stdio.h>

void nft_put(struct nft_text *text, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(text->at + text->length, text->size - text->length, format, arguments);
	va_end(arguments);
	if (n < 0 || (size_t)n >= text->size - text->length)
		text->full = true;
	else
		text->length += (size_t)n;
}
